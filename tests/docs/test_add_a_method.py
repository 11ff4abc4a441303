"""docs/add-a-method.md, followed to the letter in a copy of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from following import MICRO, TOY, copy_with_files_of, folders_of, page, run

PAGE = page("add-a-method.md")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_with_files_of(PAGE, tmp_path_factory.mktemp("project"))


def test_the_page_names_a_method_a_yaml_a_test_and_a_grid() -> None:
    assert folders_of(PAGE) == ["src/adasid_exp/tokenizers", "conf/tokenizer", "tests/tokenizers", "experiments"]


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
    said = run(
        tree, "adasid_exp", "stage=reproduce", "stage.grid=rotation", "stage.seeds=[0]", "stage.jobs=1", *TOY, *MICRO
    )
    assert said.returncode == 0, said.stderr
    table = pl.read_csv(tree / "results" / "rotation.csv")
    assert table["method"].to_list() == ["opq", "random_slices"]
    assert table["retrieval/test/recall@50"].is_between(0, 1).all()
    # Law: a learnt rotation starts from the balanced axes and never raises the error; a random one has no such help.
    errors = dict(zip(table["method"], table["quantization/recon_mse"], strict=True))
    assert errors["opq"] < errors["random_slices"]
