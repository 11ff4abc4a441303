"""Figures that README and docs quote in their table of Beauty are those of the committed report, rounded."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from adasid_exp.stages.grid import load_grid

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "experiments" / "reports" / "beauty-seed0" / "table2.csv"
COLUMNS = {
    "R@10": "retrieval/test/recall@10",
    "R@50": "retrieval/test/recall@50",
    "R@100": "retrieval/test/recall@100",
    "N@50": "retrieval/test/ndcg@50",
    "collisions": "quantization/collision_rate",
    "AUC": "ranking/test/auc",
    "GAUC": "ranking/test/gauc",
}
PAGES = [page for page in (ROOT / "README.md", ROOT / "docs" / "reproduce.md") if "| R@10 |" in page.read_text("utf-8")]


def rows(page: Path) -> dict[str, dict[str, str]]:
    """The page's table of Beauty: cells by method's label and column."""
    lines = page.read_text(encoding="utf-8").splitlines()
    head = next(place for place, line in enumerate(lines) if "| R@10 |" in line)
    names = [cell.strip() for cell in lines[head].strip("|").split("|")]
    found = {}
    for line in lines[head + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        found[re.sub(r" \(.*", "", cells[0])] = dict(zip(names[1:], cells[1:], strict=True))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_table_of_beauty_is_that_of_the_report(page: Path) -> None:
    labels = {row.label: name for name, row in load_grid("table2").rows.items()}
    report = {line["method"]: line for line in pl.read_csv(REPORT).iter_rows(named=True)}
    quoted = rows(page)
    assert len(quoted) >= 8, f"{page.name} quotes the methods of the paper"
    wrong = []
    for label, cells in quoted.items():
        for column, text in cells.items():
            if not text or column not in COLUMNS:
                continue
            value = report[labels[label]][COLUMNS[column]]
            said = float(text.removesuffix("%")) / (100 if "%" in text else 1)
            places = len(text.removesuffix("%").strip().partition(".")[2]) + (2 if "%" in text else 0)
            if value is None or abs(round(value, places) - said) > 1e-9:
                wrong.append(f"{label} {column}: {text}, the report has {value}")
    assert not wrong, f"{page.name}:\n" + "\n".join(wrong)
