"""docs/add-a-method.md, followed to the letter in a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
FILE = re.compile(r"`(?P<path>[\w/.]+)`\n\n```\w+\n(?P<text>.*?)```", re.DOTALL)
MICRO = (
    "data=toy",
    "data.users=150",
    "data.items=80",
    "data.classes=8",
    "scale.codebook_size=8",
    "scale.length=3",
    "scale.epochs={behavior:2,tokenizer:2,retriever:2,ranker:1}",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the files that the page has its reader write."""
    tree = tmp_path_factory.mktemp("project")
    for name in ("src", "conf", "experiments", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "reports"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    for found in FILE.finditer(PAGE):
        assert not (tree / found["path"]).exists(), f"{found['path']} is there already: the page teaches nothing"
        (tree / found["path"]).write_text(found["text"], encoding="utf-8")
    return tree


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {"PYTHONPATH": str(tree / "src"), "ADASID_RUNS": str(tree / "runs"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_page_names_a_method_a_yaml_a_test_and_a_grid() -> None:
    folders = [str(Path(found["path"]).parent) for found in FILE.finditer(PAGE)]
    assert folders == ["src/adasid_exp/tokenizers", "conf/tokenizer", "tests/tokenizers", "experiments"]


@pytest.mark.slow
def test_its_own_test_and_the_contract_hold(tree: Path) -> None:
    where = ("tests/tokenizers/test_random_slices.py", "tests/contracts/test_tokenizers.py")
    said = run(tree, "pytest", "-p", "no:xdist", "-rA", *where, "-k", "random_slices")
    assert said.returncode == 0, said.stdout
    passed = re.findall(r"^PASSED (\S+)", said.stdout, re.MULTILINE)
    assert sum("test_random_slices.py" in name for name in passed) == 1
    assert sum("[random_slices" in name for name in passed) >= 5


@pytest.mark.slow
def test_it_stands_in_the_table(tree: Path) -> None:
    said = run(tree, "adasid_exp", "stage=reproduce", "stage.grid=rotation", "stage.seeds=[0]", "stage.jobs=1", *MICRO)
    assert said.returncode == 0, said.stderr
    table = pl.read_csv(tree / "results" / "rotation.csv")
    assert table["method"].to_list() == ["opq", "random_slices"]
    assert table["retrieval/test/recall@50"].is_between(0, 1).all()
    # Law: a learnt rotation starts from the balanced axes and never raises the error; a random one has no such help.
    errors = dict(zip(table["method"], table["quantization/recon_mse"], strict=True))
    assert errors["opq"] < errors["random_slices"]
