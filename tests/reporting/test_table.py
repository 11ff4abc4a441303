"""Tables: summaries by hand, the bound, missing cells, all four renderings."""

from __future__ import annotations

import io
import math

import polars as pl
import pytest
from rich.console import Console

from adasid_exp.reporting.render import csv, duration, latex, markdown, memory, terminal
from adasid_exp.reporting.table import (
    MISSING,
    Column,
    Cost,
    Table,
    bound_violations,
    line_of,
    mark_best,
    paper_bound_violations,
    runs_frame,
)

COLUMNS = [
    Column(part="retrieval", part_title="Retrieval", key="test/recall@50", title="R@50", higher_is_better=True),
    Column(part="ranking", part_title="Ranking", key="test/auc", title="AUC", higher_is_better=True),
]


COST = Cost(seconds=250.0, cpu_seconds=200.0, peak_memory_mb=2048.0)


def record(method: str, seed: int, task: str, metric: str, value: float, seconds: float = 10.0) -> dict[str, object]:
    return {
        "method": method,
        "seed": seed,
        "task": task,
        "split": "test",
        "metric": metric,
        "value": value,
        "seconds": seconds,
        "cpu_seconds": None,
        "peak_memory_mb": 2048.0,
        "signature": "0",
    }


def make_table() -> Table:
    runs = runs_frame(
        [
            record("a", 0, "retrieval", "recall@50", 0.1),
            record("a", 1, "retrieval", "recall@50", 0.3),
            record("a", 0, "ranking", "auc", 0.7, seconds=5.0),
            record("b", 0, "retrieval", "recall@50", 0.15),
        ]
    )
    lines = [
        line_of(runs, "a", "Method A", ["retrieval", "ranking"], COLUMNS, {"test/recall@50": 0.25}, COST),
        line_of(runs, "b", "Method B", ["retrieval", "ranking"], COLUMNS, {}, None),
        line_of(runs, "c", "Reference", ["retrieval"], COLUMNS, {}, None),
    ]
    return Table(title="T", columns=COLUMNS, lines=mark_best(lines, COLUMNS, ["a", "b"]), notes=["note & more"])


def test_mean_and_sample_deviation_over_seeds() -> None:
    figure = make_table().lines[0].figures["retrieval", "test/recall@50"]
    assert figure is not None
    assert figure.mean == pytest.approx((0.1 + 0.3) / 2)
    assert figure.std == pytest.approx(math.sqrt(0.02))  # by hand: deviations ±0.1, one degree of freedom
    assert figure.seeds == 2
    assert figure.best


def test_one_seed_has_no_deviation_and_what_has_not_run_is_missing() -> None:
    lines = make_table().lines
    one, none = lines[1].figures["retrieval", "test/recall@50"], lines[1].figures["ranking", "test/auc"]
    assert one is not None
    assert one.std is None
    assert none is not None
    assert none.mean is None
    assert none.text() == MISSING
    assert lines[2].figures["ranking", "test/auc"] is None  # takes no part: not a missing run


def test_markdown_has_our_figure_and_the_papers() -> None:
    text = markdown(make_table())
    assert "**0.2000 ± 0.1414** [0.2500]" in text
    assert f"| Method B | {MISSING} |" in text
    assert "| Method A | 4 min 10 s | 3 min 20 s | 2.0 GiB |" in text
    assert f"| Method B | {MISSING} | {MISSING} | {MISSING} |" in text
    assert "| Reference |" not in text.split("## Ranking")[1].split("## Cost")[0]


def test_csv_reads_back() -> None:
    frame = pl.read_csv(io.StringIO(csv(make_table())))
    assert frame.filter(pl.col("method") == "a")["retrieval/test/recall@50/paper"].item() == 0.25
    assert frame.filter(pl.col("method") == "b")["ranking/test/auc"].item() is None


def test_latex_is_balanced_and_escaped() -> None:
    text = latex(make_table())
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    body = [line for line in text.splitlines() if line.startswith("Method")]
    assert all(line.count("&") == len(COLUMNS) for line in body)
    assert MISSING not in text


def test_every_cost_stands_under_its_heading() -> None:
    # By hand: 250 s of wall time, 200 s of CPU time, 2048 MiB.
    costs = terminal(make_table())[-1]
    cells = {str(column.header): next(iter(column.cells)) for column in costs.columns}
    assert (cells["time, all stages"], cells["CPU time"], cells["peak memory"]) == (
        "4 min 10 s",
        "3 min 20 s",
        "2.0 GiB",
    )


def test_the_terminal_shows_every_block() -> None:
    stream = io.StringIO()
    Console(file=stream, width=120).print(*terminal(make_table()))
    assert "[0.2500]" in stream.getvalue()
    assert "2.0 GiB" in stream.getvalue()


def test_durations_and_memory() -> None:
    assert duration(250) == "4 min 10 s"
    assert duration(8.4) == "8 s"
    assert memory(1536) == "1.5 GiB"


def one_target_run(ndcg100: float) -> pl.DataFrame:
    values = {"recall@50": 0.1, "recall@100": 0.2, "ndcg@50": 0.05, "ndcg@100": ndcg100}
    return runs_frame([record("m", 0, "retrieval", metric, value) for metric, value in values.items()])


def test_the_bound_on_ndcg_gain() -> None:
    # By hand: a hit at rank 51 adds 1 / log2(52) = 0.17543, so the most that 0.1 of recall can add is 0.017543.
    assert bound_violations(one_target_run(0.05 + 0.0175)) == []
    assert len(bound_violations(one_target_run(0.05 + 0.0176))) == 1


def test_the_papers_beauty_rows_break_the_bound() -> None:
    rq_vae = {
        "test/recall@50": 0.1213,
        "test/recall@100": 0.2398,
        "test/ndcg@50": 0.0803,
        "test/ndcg@100": 0.1304,
    }
    assert paper_bound_violations({"rq_vae": rq_vae, "none": {}}) == ["rq_vae"]
