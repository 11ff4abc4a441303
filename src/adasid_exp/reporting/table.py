"""From tidy runs to a table: mean ± std over seeds, the paper's figure beside ours, missing cells as missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from adasid_exp.reporting.statistics import mean_std

MISSING = "—"

RUN_SCHEMA = {
    "method": pl.String,
    "seed": pl.Int64,
    "task": pl.String,
    "split": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "seconds": pl.Float64,
    "cpu_seconds": pl.Float64,
    "peak_memory_mb": pl.Float64,
    "signature": pl.String,
}
"""Columns of ``runs.csv``, one figure of one run a row; seconds and memory count all that the run rests on."""


def number(value: float) -> str:
    """Four decimals for rates and losses, none for counts."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.0f}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One cell: our mean and standard deviation over ``seeds`` runs, and the paper's figure.

    Any of them may be None: not run, one seed only, not in the paper.
    """

    mean: float | None
    std: float | None
    seeds: int
    paper: float | None
    best: bool = False

    def text(self, *, plus_minus: str = " ± ", bold: tuple[str, str] = ("", "")) -> str:
        """``0.1432 ± 0.0011 [0.1855]``: the paper's figure in brackets."""
        ours = MISSING if self.mean is None else number(self.mean)
        if self.std is not None:
            ours += f"{plus_minus}{number(self.std)}"
        if self.best:
            ours = bold[0] + ours + bold[1]
        return ours if self.paper is None else f"{ours} [{number(self.paper)}]"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: the block it stands in, its key in `RUN_SCHEMA` terms, heading, and which way is better."""

    part: str
    part_title: str
    key: str
    title: str
    higher_is_better: bool | None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a row took: every artifact it rests on counted once.

    Attributes:
        seconds: mean over seeds of the summed wall time.
        cpu_seconds: the same of the CPU time of all threads, which other programs on the machine do not lengthen; None
            where an artifact was made before it was measured.
        peak_memory_mb: largest of any artifact, MiB.
    """

    seconds: float
    cpu_seconds: float | None
    peak_memory_mb: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table; a cost of None means that nothing of it has run."""

    name: str
    label: str
    figures: Mapping[tuple[str, str], Figure | None]
    cost: Cost | None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Mean over seeds of one per-item column in each tenth of the catalogue by training count."""

    label: str
    title: str
    deciles: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A finished table; a figure of None means the row does not take part in that block.

    ``profiles`` show how methods treat items from the least to the most popular tenth of the catalogue.
    """

    title: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    notes: Sequence[str]
    profiles: Sequence[Profile] = ()


def runs_frame(records: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Tidy runs as a frame with `RUN_SCHEMA`."""
    return pl.DataFrame(list(records), schema=RUN_SCHEMA, orient="row")


def values_of(runs: pl.DataFrame, method: str, part: str, key: str) -> list[float]:
    """One figure of every seed; ``key`` is ``split/metric`` or a bare metric. What is undefined (nan) is left out."""
    split, _, metric = key.rpartition("/")
    chosen = (pl.col("method") == method, pl.col("task") == part, pl.col("split") == split, pl.col("metric") == metric)
    return runs.filter(*chosen, pl.col("value").is_not_nan())["value"].to_list()


def figure_of(runs: pl.DataFrame, method: str, part: str, key: str, paper: float | None) -> Figure:
    """Summarizes one cell; ``key`` as in `values_of`."""
    values = values_of(runs, method, part, key)
    if not values:
        return Figure(mean=None, std=None, seeds=0, paper=paper)
    summary = mean_std(values)
    return Figure(mean=summary.mean, std=summary.std, seeds=len(values), paper=paper)


def line_of(
    runs: pl.DataFrame,
    name: str,
    label: str,
    parts: Sequence[str],
    columns: Sequence[Column],
    paper: Mapping[str, float],
    cost: Cost | None,
) -> Line:
    """One row: a figure per column of the blocks it takes part in, and its cost (None: nothing has run)."""
    figures = {
        (column.part, column.key): figure_of(runs, name, column.part, column.key, paper.get(column.key))
        if column.part in parts
        else None
        for column in columns
    }
    return Line(name=name, label=label, figures=figures, cost=cost)


def mark_best(lines: Sequence[Line], columns: Sequence[Column], among: Sequence[str]) -> list[Line]:
    """Marks the best mean of each column that has a direction, among the rows named."""
    best: dict[tuple[str, str], str] = {}
    for column in columns:
        key = (column.part, column.key)
        scored = {
            line.name: figure.mean
            for line in lines
            if line.name in among and (figure := line.figures[key]) is not None and figure.mean is not None
        }
        if column.higher_is_better is not None and scored:
            pick = max if column.higher_is_better else min
            best[key] = pick(scored, key=scored.__getitem__)
    return [_with_marks(line, best) for line in lines]


def _with_marks(line: Line, best: Mapping[tuple[str, str], str]) -> Line:
    figures = {
        key: figure if figure is None else replace(figure, best=best.get(key) == line.name)
        for key, figure in line.figures.items()
    }
    return replace(line, figures=figures)


def profile_of(runs: pl.DataFrame, name: str, label: str, metric: str, title: str) -> Profile | None:
    """How ``metric`` of a method goes with popularity; None if it was not recorded."""
    mine = runs.filter((pl.col("method") == name) & (pl.col("metric") == metric))
    deciles = [mine.filter(pl.col("split") == f"decile{decile}")["value"].to_list() for decile in range(1, 11)]
    if not all(deciles):
        return None
    return Profile(label=label, title=title, deciles=[sum(values) / len(values) for values in deciles])


def bound_violations(runs: pl.DataFrame) -> list[str]:
    """Runs that break N@100 - N@50 <= (R@100 - R@50) / log2(52), which one held-out item a user implies.

    A hit at rank 51..100 adds at most 1/log2(52) to NDCG.
    """
    wanted = ["recall@50", "recall@100", "ndcg@50", "ndcg@100"]
    test = runs.filter((pl.col("task") == "retrieval") & (pl.col("split") == "test") & pl.col("metric").is_in(wanted))
    broken = []
    for (method, seed), group in test.group_by("method", "seed", maintain_order=True):
        value = dict(zip(group["metric"], group["value"], strict=True))
        if len(value) == len(wanted):
            gain = value["ndcg@100"] - value["ndcg@50"]
            limit = (value["recall@100"] - value["recall@50"]) / math.log2(52)
            if gain > limit + 1e-9:
                broken.append(f"{method} seed {seed}: N@100 - N@50 = {gain:.4f} > {limit:.4f}")
    return broken


def paper_bound_violations(paper: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The paper's own rows that break the same bound."""
    broken = []
    for name, value in paper.items():
        keys = ["test/ndcg@100", "test/ndcg@50", "test/recall@100", "test/recall@50"]
        if all(key in value for key in keys):
            gain = value[keys[0]] - value[keys[1]]
            if gain > (value[keys[2]] - value[keys[3]]) / math.log2(52) + 1e-9:
                broken.append(name)
    return broken
