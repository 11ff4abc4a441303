"""Temperature of a retriever's evidence: chosen on validation, and nothing else changed."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from test_leak import AS_TABLES, last_of_each_user, other_items, toy, write

from adasid_exp.artifacts.store import Manifest, Store
from adasid_exp.stages.quiet import quiet
from adasid_exp.stages.schedule import stage_of
from adasid_exp.types import UserError
from conftest import MICRO

HOW = (
    "tokenizer=rq_vae",
    "retriever.fit.check_every=2",
    "retriever.fit.epochs=2",
)  # one check: nothing is chosen by it


def made(runs: Path, *overrides: str) -> Path:
    quiet()
    return stage_of((*overrides, f"runs={runs}")).ensure(Store(runs))


def figures(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize(
    "how", [("retriever=parallel", "retriever.prior.codes=1.0"), ("retriever=item_softmax",)], ids=lambda how: how[0]
)
def test_the_best_on_validation_is_kept_and_is_that_retriever(
    how: tuple[str, ...], micro_runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Reference: stage=retrieve with T log p(i) in its prior from the start; what it learns does not depend on it.
    caplog.set_level("INFO")
    folder = made(micro_runs, *MICRO, *HOW, how[0], "stage=calibrate", "temperatures=[1.0,8.0,0.25]")
    facts = Manifest.load(folder).facts
    assert ("is the last of the list" in caplog.text) == (facts["temperature"] != 1.0)
    found = figures(folder)
    for temperature, value in facts["validation"].items():
        asked = ("stage=retrieve", *how, f"retriever.prior.items={float(temperature)}")
        reference = made(micro_runs, *MICRO, *HOW, *asked)
        expected = figures(reference)
        assert value == pytest.approx(expected["val/ndcg@50"], abs=1e-6)
        if float(temperature) == facts["temperature"]:
            assert {k: v for k, v in found.items() if k != "prior/temperature"} == pytest.approx(expected, abs=1e-6)
            assert pl.read_parquet(folder / "rows.parquet").equals(pl.read_parquet(reference / "rows.parquet"))
    assert found["prior/temperature"] == facts["temperature"]
    assert len(set(facts["validation"].values())) == 3
    assert facts["validation"][f"{facts['temperature']:g}"] == max(facts["validation"].values())


def test_the_choice_does_not_see_the_test(tmp_path: Path) -> None:
    raw = toy()
    said = []
    for name, rows in (("true", raw.interactions), ("changed", None)):
        rows = other_items(raw.interactions, last_of_each_user(raw.interactions)) if rows is None else rows
        root = write(raw, rows, tmp_path / name)
        folder = made(tmp_path / f"runs-{name}", *AS_TABLES, *HOW, f"data.root={root}", "stage=calibrate")
        found = figures(folder)
        said.append((Manifest.load(folder).facts, {k: v for k, v in found.items() if not k.startswith("test/")}, found))
    assert said[0][:2] == said[1][:2]
    assert said[0][2] != said[1][2]  # the change did reach the test


@pytest.mark.parametrize("other", ["prior@retriever.prior=none", "retriever=item_knn"])
def test_nothing_to_temper(other: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stage=calibrate needs prior@retriever.prior=bayes .* use stage=retrieve"):
        made(tmp_path, *MICRO, "tokenizer=rq_kmeans", other, "stage=calibrate", "retriever.fit.epochs=0")
