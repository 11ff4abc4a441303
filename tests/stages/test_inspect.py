"""The SID quality report: hand-worked figures of a small table, and the command on a foreign file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.data.sequences import Histories
from adasid_exp.data.sid_tables import SidFile
from adasid_exp.reporting.sid_figure import sid_figure
from adasid_exp.reporting.sid_report import SidReport, markdown, to_json
from adasid_exp.stages.inspect import Catalogue, by_popularity, category_labels, report_of
from adasid_exp.types import PAD
from conftest import MICRO


def catalogue() -> Catalogue:
    """Items a b c d; user 0 bought a, b; user 1 bought b, c; d is held out."""
    items = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "categories": [["x", "y"], ["x", "y"], ["x", "z"], None]})
    histories = Histories(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 2, 4]))
    return Catalogue(name="tiny", items=items, histories=histories, count=np.array([1, 2, 1, 0]))


def table(item_ids: list[str], codes: list[list[int]], sizes: tuple[int, ...]) -> SidFile:
    array = np.array(codes, dtype=np.int16)
    sids = SemanticIds(
        item_ids=np.array(item_ids),
        codes=array,
        weights=(array != PAD).astype(np.float32),
        modalities=("text",) * len(sizes),
        sizes=sizes,
        ordered=False,
    )
    return SidFile(sids=sids, notes=("a note of the reader",))


def small_report() -> SidReport:
    # In another order than the data set, with one item it lacks.
    file = table(["c", "a", "q", "b"], [[0, PAD], [0, 1], [3, 1], [0, 1]], (4, 2))
    return report_of("small", file, catalogue(), None)


def test_figures_of_a_small_table_by_hand() -> None:
    report = small_report()
    first, second = report.slots
    assert report.whole["unique_rate"] == pytest.approx(3 / 4)  # a and b share (0, 1)
    assert report.whole["max_collision"] == 2
    assert report.whole["dead_codes"] == 3
    assert first["dead_codes"] == 2
    assert first["entropy"] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert first["entropy_ratio"] == pytest.approx(first["entropy"] / math.log(4))
    assert first["gini"] == pytest.approx((1 * 1 + 3 * 3) / (4 * 4))  # sorted 0 0 1 3; ranks weigh -3 -1 1 3
    assert second["load"] == pytest.approx(3 / 4)
    assert second["perplexity"] == pytest.approx(1.0)
    assert [usage.tolist() for usage in report.usage] == [[3, 0, 0, 1], [0, 3]]


def test_agreement_leaves_out_unknown_items_and_held_out_purchases() -> None:
    # Known: c, a, b. Slot 0: three pairs share code 0; ab have one category: 1/3, as have all pairs: lift 1.
    # Bought together in training: ab and bc, 2/3. Slot 1 and the SID: the pair ab alone has code 1: 1 of 1.
    report = small_report()
    first, second = report.slots
    assert first["category_rate"] == pytest.approx(1 / 3)
    assert first["category_lift"] == pytest.approx(1.0)
    assert first["copurchase_rate"] == pytest.approx(2 / 3)
    assert second["copurchase_rate"] == pytest.approx(1.0)
    assert report.whole["copurchase_rate"] == pytest.approx(1.0)
    assert report.whole["copurchase_lift"] == pytest.approx(3 / 2)
    assert any("1 of 4 items of the table are not in it" in note for note in report.notes)
    assert "a note of the reader" in report.notes


def test_category_paths_are_cut_at_the_depth_asked_for() -> None:
    items = catalogue().items
    whole, top = category_labels(items, None), category_labels(items, 1)
    assert whole[0] == whole[1] != whole[2]
    assert top[0] == top[1] == top[2]
    assert whole[3] == top[3] == -1
    assert category_labels(items.drop("categories"), None).tolist() == [-1] * 4


def test_slots_in_use_by_tenth_of_popularity() -> None:
    # 20 items; item i has count 19 - i and uses slot 1 if among the ten first: the popular half has 2 slots.
    codes = np.array([[0, 0 if item < 10 else PAD] for item in range(20)])
    tenths = by_popularity(codes, np.arange(20)[::-1])
    assert [tenth["active_slots"] for tenth in tenths] == [1.0] * 5 + [2.0] * 5
    assert [tenth["count"] for tenth in tenths] == [0.5 + 2 * tenth for tenth in range(10)]
    assert by_popularity(codes[:9], np.arange(9)) == []


def test_json_holds_null_and_markdown_a_dash_where_a_figure_does_not_exist() -> None:
    report = report_of("one", table(["a", "c"], [[0, PAD], [1, 0]], (2, 1)), catalogue(), None)
    tree = json.loads(to_json(report))
    assert tree["slots"][1]["category_rate"] is None  # one item uses the slot: no pair
    assert "| 1 text |" in markdown(report)
    assert "—" in markdown(report)
    assert "slot1/category_rate" not in report.flat()
    assert report.flat()["unique_rate"] == 1.0


def test_the_picture_has_the_panels_that_can_be_drawn() -> None:
    pytest.importorskip("matplotlib")
    known = small_report()
    unknown = report_of("x", table(["k", "l"], [[0, 1], [1, 0]], (2, 2)), catalogue(), None)
    assert len(sid_figure(known).axes) == 3  # too few items for tenths
    assert len(sid_figure(unknown).axes) == 2


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.slow
def test_the_command_reports_a_foreign_table_and_its_own(adasid: Callable, micro_runs: Path, tmp_path: Path) -> None:
    # Half of the 80 toy items, and one it does not know; every two neighbors share a SID.
    mapping = {f"I{item:05d}": [f"<a_{item // 2}>", f"<b_{item % 2 * 0}>"] for item in range(40)} | {"?": ["<a_0>"]}
    path = tmp_path / "theirs.index.json"
    path.write_text(json.dumps(mapping))
    asked = ("stage=inspect", f"stage.results={tmp_path}", *MICRO)
    said = adasid(*asked, f"sids={path}")
    assert said.returncode == 0, said.stderr
    assert "1 of 41 items of the table are not in it" in " ".join(said.stdout.split())
    tree = json.loads((tmp_path / "theirs.json").read_text())
    assert tree["sid"]["unique_rate"] == pytest.approx(21 / 41)
    assert [slot["size"] for slot in tree["slots"]] == [20, 1]
    long = {(row["scope"], row["figure"]): row["value"] for row in read_csv(tmp_path / "theirs.csv")}
    assert float(long["sid", "collision_rate"]) == pytest.approx(20 / 41)
    assert float(long["decile1", "active_slots"]) == 2.0
    assert (tmp_path / "theirs.svg").exists()
    logged = read_csv(micro_runs / "logs" / "inspect" / "theirs" / "metrics.csv")[0]
    assert float(logged["max_collision"]) == tree["sid"]["max_collision"] == 2
    own = adasid(*asked, "tokenizer=rq_vae", "collisions=dedup_token", "scale.length=2")
    assert own.returncode == 0, own.stderr
    report = next(tmp_path.glob("toy-rq_vae-retrieval-*.md")).read_text()
    assert "| collision rate | 0.000 |" in report
    assert "Collisions: policy dedup_token" in report


def test_a_table_that_is_not_there_is_one_line(adasid: Callable) -> None:
    said = adasid("stage=inspect", "sids=/nonexistent/sids.csv")
    assert said.returncode == 2
    assert said.stderr.strip().count("\n") == 0
    assert "/nonexistent/sids.csv is missing" in said.stderr
