"""Pictures show the numbers they are given: read back from the drawn artists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adasid_exp.artifacts.results import Results
from adasid_exp.reporting.plots import Curves, Deciles, Dots, Population, Spot, Strengths, over_users, spread_of
from adasid_exp.reporting.table import runs_frame

pytest.importorskip("matplotlib")


def record(method: str, seed: int, part: str, split: str, metric: str, value: float) -> dict[str, object]:
    names = {"method": method, "seed": seed, "task": part, "split": split, "metric": metric, "value": value}
    return {**names, "seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mb": 1.0, "signature": "0"}


def spot(label: str, series: str | None = None, x: float | None = None, **folders: Path) -> Spot:
    return Spot(label=label, series=series, x=x, folders=folders)


RUNS = runs_frame(
    [
        record("a", 0, "retrieval", "test", "recall@50", 0.1),
        record("a", 1, "retrieval", "test", "recall@50", 0.3),
        record("b", 0, "retrieval", "test", "recall@50", 0.5),
        record("c", 0, "retrieval", "test", "recall@50", float("nan")),
    ]
)
ROWS = {"a": spot("A", "one", 2.0), "b": spot("B", "one", 1.0), "c": spot("C", "two", 1.0)}
PANEL = {"part": "retrieval", "key": "test/recall@50", "title": "Recall@50"}


def test_a_curve_goes_through_the_means_with_one_std_around_them() -> None:
    # By hand: a has mean .2 and std .1414 over two seeds, b one run; c has no number and no point.
    figure = Curves(title="t", x_label="x", panels=[PANEL], columns=1).draw(RUNS, ROWS)
    (axis,) = figure.axes
    (curve,) = axis.containers
    assert curve.lines[0].get_xdata().tolist() == [1.0, 2.0]
    assert curve.lines[0].get_ydata() == pytest.approx([0.5, 0.2])
    low, high = curve.lines[2][0].get_segments()[1][:, 1]
    assert (high - low) / 2 == pytest.approx(0.1414, abs=1e-4)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("x", "Recall@50")


def test_dots_stand_in_the_order_of_the_rows() -> None:
    figure = Dots(title="t", panels=[PANEL], columns=1).draw(RUNS, ROWS)
    (axis,) = figure.axes
    places = {round(float(c.lines[0].get_xdata()[0]), 6): float(c.lines[0].get_ydata()[0]) for c in axis.containers}
    assert places == {0.2: 0.0, 0.5: 1.0}
    assert [label.get_text() for label in axis.get_yticklabels()] == ["A", "B", "C"]
    assert figure.get_supxlabel() == "bars with caps: standard deviation over seeds"
    assert not Dots(title="t", panels=[PANEL], columns=1).draw(RUNS, {"b": ROWS["b"]}).get_supxlabel()  # one seed


def test_the_interval_over_users_is_that_of_a_share(tmp_path: Path) -> None:
    # By hand: 36 of 100 users found: 1.96 * sqrt(.36 * .64 / 99).
    above = np.where(np.arange(100) < 36, 0, 70)
    Results(metrics={}, rows={"above": above, "tied": np.ones(100, dtype=np.int64)}).save(tmp_path)
    expected = 1.96 * (0.36 * 0.64 / 99) ** 0.5
    assert over_users(tmp_path, "test/recall@50") == pytest.approx(expected)
    assert over_users(tmp_path, "val/recall@50") is over_users(None, "test/recall@50") is None
    figure = Dots(title="t", panels=[PANEL], columns=1).draw(RUNS, {"a": spot("A", retrieval=tmp_path)})
    low, high = figure.axes[0].containers[0].lines[2][0].get_segments()[0][:, 0]
    assert [low, high] == pytest.approx([0.2 - expected, 0.2 + expected])
    assert "95 %" in figure.get_supxlabel()


def test_the_interval_of_an_auc_is_that_of_its_resamples(tmp_path: Path) -> None:
    # Law: users who are all alike leave nothing to resample; one who is ranked the other way does.
    rows = {"user": np.repeat(np.arange(20), 2), "label": np.tile([0.0, 1.0], 20), "score": np.tile([0.2, 0.8], 20)}
    Results(metrics={}, rows=rows).save(tmp_path)
    assert over_users(tmp_path, "test/auc") == 0.0
    rows["score"] = np.concatenate([rows["score"][:-2], [0.8, 0.2]])
    Results(metrics={}, rows=rows).save(tmp_path)
    assert 0.0 < over_users(tmp_path, "test/auc") < 0.3


def test_a_row_without_all_tenths_is_no_curve() -> None:
    tenths = [record("a", 0, "q", f"decile{d}", "w", d / 10) for d in range(1, 11)]
    runs = runs_frame([*tenths, record("b", 0, "q", "decile1", "w", 0.5)])
    figure = Deciles(title="t", part="q", panels={"w": "weight"}, columns=1).draw(runs, ROWS)
    (curve,) = figure.axes[0].containers
    assert curve.lines[0].get_ydata() == pytest.approx(np.arange(1, 11) / 10)


def test_figure_4_is_equation_14() -> None:
    # Spec's table of test vectors: (20, 7) at .4 is .731060, (10, 9) at .9 is .683940.
    pairs = {"a": [20, 7], "b": [10, 9]}
    axis = Strengths(title="t", pairs=pairs).draw(RUNS, {}).axes[0]
    first, second = axis.lines
    assert first.get_ydata()[160] == pytest.approx(0.731060, abs=1e-5)
    assert second.get_ydata()[360] == pytest.approx(0.683940, abs=1e-5)


def test_populations_are_read_from_the_data_s_own_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "counts.npy", np.array([1, 9, 4]))
    np.save(tmp_path / "lengths.npy", np.array([2, 2, 5]))
    kind = Population(title="t", part="size", x_labels=["x", "y"], y_labels=["n", "m"])
    left, right = kind.draw(RUNS, {"data": spot("data", size=tmp_path)}).axes
    assert left.lines[0].get_ydata().tolist() == [9, 4, 1]
    assert right.lines[0].get_xydata().tolist() == [[2, 2], [5, 1]]


def test_spreads_leave_out_what_did_not_run() -> None:
    assert spread_of(RUNS, "a", "ranking", "test/auc") is None
    assert spread_of(RUNS, "c", "retrieval", "test/recall@50") is None
