"""Methods stand apart: none imports another, and what two share is a part of its own."""

from __future__ import annotations

import ast
from itertools import combinations
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import adasid_exp
from adasid_exp.stages.locations import CONF

SOURCE = Path(adasid_exp.__file__).parent
RUN = 6
"""Lines in a row that two methods may not share."""


def files_of(group: str) -> list[Path]:
    """The files that the targets of a config group stand in."""
    targets = {OmegaConf.load(path).get("_target_") for path in (CONF / group).glob("*.yaml")} - {None}
    return sorted({SOURCE.joinpath(*str(target).split(".")[1:-1]).with_suffix(".py") for target in targets})


def lines_of(path: Path) -> list[str]:
    """Code without blank lines, comments, docstrings and imports."""
    tree = ast.parse(path.read_text())
    left_out: set[int] = set()
    for node in ast.walk(tree):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if text or isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    numbered = enumerate(path.read_text().splitlines(), start=1)
    return [line.strip() for n, line in numbered if n not in left_out and line.strip() and line.strip()[0] != "#"]


def runs_of(path: Path) -> set[tuple[str, ...]]:
    lines = lines_of(path)
    return {tuple(lines[start : start + RUN]) for start in range(len(lines) - RUN + 1)}


def imports_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


@pytest.mark.parametrize("group", ["tokenizer", "retriever", "ranker"])
def test_no_method_imports_another(group: str) -> None:
    files = files_of(group)
    assert files
    modules = {path: ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in files}
    for path in files:
        others = set(modules.values()) - {modules[path]}
        assert not imports_of(path) & others, path


@pytest.mark.parametrize("group", ["tokenizer", "retriever", "ranker"])
def test_no_two_methods_share_a_block(group: str) -> None:
    for first, second in combinations(files_of(group), 2):
        assert not runs_of(first) & runs_of(second), (first, second)


def test_a_shared_block_would_be_found(tmp_path: Path) -> None:
    block = "\n".join(f"x{i} = {i}" for i in range(RUN))
    (tmp_path / "a.py").write_text(f'"""A."""\n\n{block}\ny = 1\n')
    (tmp_path / "b.py").write_text(f"import os\n\nz = 2\n\n{block}\n")
    assert runs_of(tmp_path / "a.py") & runs_of(tmp_path / "b.py")
