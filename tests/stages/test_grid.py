"""Grid files: how rows spread over blocks, what a typing slip says, runs of several grids in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.results import Results
from adasid_exp.artifacts.store import Store
from adasid_exp.reporting.table import runs_frame
from adasid_exp.stages import compare
from adasid_exp.stages import grid as grids
from adasid_exp.stages.compare import comparison_frame, comparisons
from adasid_exp.stages.grid import Cell, cells_of, kept_by_rows, load_grid, rows_on
from adasid_exp.stages.reproduce import keep_runs
from adasid_exp.stages.schedule import stage_of
from adasid_exp.types import UserError

GRID = """
name: small
title: Small
seeds: [0, 1]
parts:
  one: {title: One, overrides: [stage=assign], metrics: {entropy: H}, higher_is_better: {entropy: true}}
  two: {title: Two, overrides: [stage=retrieve], metrics: {test/recall@50: R}, higher_is_better: {}}
rows:
  both: {label: Both, everywhere: [tokenizer=opq], on_data: {logs: [seed=7]}, series: s, x: 2}
  second: {label: Second, reference: true, parts: {two: [retriever=popularity]}}
notes: []
focus: both
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> grids.Grid:
    (tmp_path / "small.yaml").write_text(GRID)
    monkeypatch.setattr(grids, "EXPERIMENTS", tmp_path)
    return load_grid("small")


def test_overrides_of_a_row_follow_those_of_the_block_and_the_user_s(small: grids.Grid) -> None:
    cells = cells_of(small, small.rows, [3], ["data=toy"])
    assert [(cell.row, cell.part) for cell in cells] == [("both", "one"), ("both", "two"), ("second", "two")]
    assert cells[1].overrides == ("data=toy", "stage=retrieve", "tokenizer=opq", "seed=3")
    assert (small.rows["both"].series, small.rows["both"].x, small.rows["both"].reference) == ("s", 2, False)


def test_a_row_stays_what_it_is_under_the_user_s_override(small: grids.Grid) -> None:
    """Law: the popularity row ranks by popularity whatever retriever the others get, and the report says so."""
    shared = ["retriever=parallel", "data=toy"]
    names = {cell.row: stage_of(cell.overrides).cfg.retriever.name for cell in cells_of(small, small.rows, [0], shared)}
    assert names == {"both": "parallel", "second": "popularity"}
    assert kept_by_rows(small, small.rows, shared) == [
        "retriever=parallel holds for the other rows: second set retriever themselves"
    ]


def test_what_no_row_takes_from_the_user_is_said() -> None:
    table2 = load_grid("table2")
    rows = rows_on({"ada_sid": table2.rows["ada_sid"]}, "logs")
    assert kept_by_rows(table2, rows, ["tokenizer=opq", "tokenizer.slots.behavior=3", "tokenizer.align.alpha=3"]) == [
        "tokenizer=opq holds for no row: every one sets tokenizer itself",
        "tokenizer.slots.behavior=3 holds for no row: every one sets tokenizer.slots.behavior itself",
    ]


def test_a_row_overrides_more_on_the_data_it_names(small: grids.Grid) -> None:
    own = {data: rows_on(small.rows, data)["both"].parts["one"] for data in ("logs", "toy")}
    assert own == {"logs": ("tokenizer=opq", "seed=7"), "toy": ("tokenizer=opq",)}
    assert rows_on(small.rows, "logs")["second"] == small.rows["second"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("focus: both", "unknown key 'fokus'"),
        ("series: s", "unknown key 'serie' in row 'Both'"),
    ],
)
def test_a_misspelt_key_is_named(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = said.split("'")[1]
    (tmp_path / "small.yaml").write_text(GRID.replace(text.split(":")[0] + ":", f"{wrong}:"))
    monkeypatch.setattr(grids, "EXPERIMENTS", tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        load_grid("small")
    assert "small.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runs_of_several_grids_share_a_file(tmp_path: Path) -> None:
    def runs(value: float) -> pl.DataFrame:
        names = {"method": "a", "seed": 0, "task": "one", "split": "", "metric": "entropy", "value": value}
        return runs_frame([{**names, "seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mb": 1.0, "signature": "0"}])

    path = tmp_path / "runs.csv"
    keep_runs(runs(1.0), "first", path)
    keep_runs(runs(2.0), "second", path)
    keep_runs(runs(3.0), "first", path)  # an earlier report of the same grid is replaced
    kept = pl.read_csv(path)
    assert dict(zip(kept["grid"], kept["value"], strict=True)) == {"second": 2.0, "first": 3.0}


class Found:
    """A stage whose artifact is in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.name, self.signature = str(folder), ""


def test_the_focus_is_held_against_every_row_and_the_best_baseline_is_named(
    tmp_path: Path, small: grids.Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By hand: of 4 users a finds 3 within 50, b 2, c 1; the reference finds all but is no baseline.
    rows = {
        name: grids.Row(label=name, reference=name == "ref", parts={}, on_data={}, paper={}, series=None, x=None)
        for name in ("a", "b", "c", "ref")
    }
    for name, found in {"a": 3, "b": 2, "c": 1, "ref": 4}.items():
        above = np.where(np.arange(4) < found, 0, 1000)
        folder = tmp_path / name
        folder.mkdir()
        tied = np.ones(4, dtype=np.int64)
        Results(metrics={"test/recall@50": found / 4}, rows={"user": np.arange(4), "above": above, "tied": tied}).save(
            folder
        )
    cells = [Cell(row=name, part="two", seed=0, overrides=(name,)) for name in rows]
    monkeypatch.setattr(compare, "stage_of", lambda overrides: Found(tmp_path / overrides[0]))
    monkeypatch.setattr(Store, "find", lambda self, name, signature: Path(name))
    asked = grids.Grid(**{**vars(small), "rows": rows, "focus": "a", "compared": {"two": ("recall@50",)}})
    found = list(comparisons(asked, rows, cells, Store(tmp_path)))
    differences = {one.against: one.difference.value for one in found}
    assert differences == pytest.approx({"b": 0.25, "c": 0.5, "ref": -0.25})
    assert [one.against for one in found if one.best] == ["b"]
    assert "a - b, recall@50: +0.2500" in found[0].sentence(rows)
    assert comparison_frame(found)["users"].to_list() == [4, 4, 4]
