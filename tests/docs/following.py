"""Following a page of docs/ to the letter: the files it has its reader write, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = re.compile(r"`(?P<path>[\w/.]+)`\n\n```\w+\n(?P<text>.*?)```", re.DOTALL)
PYTHON = re.compile(r"```python\n(?P<text>.*?)```", re.DOTALL)
MICRO = (
    "scale.codebook_size=8",
    "scale.length=3",
    "scale.epochs={behavior:2,tokenizer:2,retriever:2,slots:2,ranker:1}",
)
"""Trains what a page trains in seconds."""
TOY = ("data=toy", "data.users=150", "data.items=80", "data.classes=8")


def page(name: str) -> str:
    """The text of a page."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def copy_with_files_of(text: str, tree: Path) -> Path:
    """A copy of the project with the files that the page has its reader write."""
    for name in ("src", "conf", "experiments", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "reports"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    for found in FILE.finditer(text):
        assert not (tree / found["path"]).exists(), f"{found['path']} is there already: the page teaches nothing"
        (tree / found["path"]).write_text(found["text"], encoding="utf-8")
    return tree


def folders_of(text: str) -> list[str]:
    """The folders of those files, in order."""
    return [str(Path(found["path"]).parent) for found in FILE.finditer(text)]


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m`` in the copy, with the copy's sources."""
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
