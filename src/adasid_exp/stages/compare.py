"""Is a row better than another? Paired bootstraps over users, from the rows that runs keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
import torch

from adasid_exp.artifacts.results import Results
from adasid_exp.artifacts.store import Store
from adasid_exp.functional.ranking import expected_ndcg, expected_recall
from adasid_exp.reporting.statistics import (
    Bootstrap,
    Difference,
    ResampledAuc,
    difference_of_auc,
    difference_of_gauc,
    difference_of_means,
    resampled_auc,
)
from adasid_exp.stages.grid import Cell, Grid, Row
from adasid_exp.stages.schedule import stage_of

HOW = Bootstrap(resamples=2000, level=0.95, seed=0)
PER_USER = {"recall": expected_recall, "ndcg": expected_ndcg}

Found = Mapping[str, Sequence[Results]]
"""Finished runs of each row."""

Pairwise = Callable[[str, str], Difference]
"""First row minus second."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row held against another on the test split.

    Attributes:
        part, metric: what was compared, e.g. ``retrieval`` and ``recall@50``.
        row, against: names of the rows.
        difference: row minus against, over the users of the test split.
        seeds: runs of each that were averaged.
        best: whether ``against`` has the best mean of the others that are no references.
    """

    part: str
    metric: str
    row: str
    against: str
    difference: Difference
    seeds: tuple[int, int]
    best: bool

    def sentence(self, rows: Mapping[str, Row]) -> str:
        """The comparison in one line."""
        found = self.difference
        return (
            f"{rows[self.row].label} - {rows[self.against].label}, {self.metric}: {found.value:+.4f}, "
            f"95 % interval [{found.low:+.4f}, {found.high:+.4f}], p = {found.p_value:.4f}, {found.users} users, "
            f"{self.seeds[0]} against {self.seeds[1]} seeds (paired bootstrap over users)."
        )


def comparisons(grid: Grid, rows: Mapping[str, Row], cells: Sequence[Cell], store: Store) -> Iterator[Comparison]:
    """For every metric of ``grid.compared`` the focus against each other row; without a focus the best against
    the next best of the rows that are no references."""
    for part, names in grid.compared.items():
        found = _results(cells, store, part)
        methods = [name for name in found if not rows[name].reference]
        for name in names:
            mean = {row: np.mean([r.metrics[f"test/{name}"] for r in runs]) for row, runs in found.items()}
            ranked = sorted(methods, key=lambda row: -mean[row])
            focus = grid.focus or (ranked[0] if ranked else None)
            if focus not in found or len(found) < 2:
                continue
            baselines = [row for row in ranked if row != focus]
            difference = DIFFERENCE[name.split("@")[0]](found, name)
            for other in [row for row in found if row != focus] if grid.focus else baselines[:1]:
                yield Comparison(
                    part=part,
                    metric=name,
                    row=focus,
                    against=other,
                    difference=difference(focus, other),
                    seeds=(len(found[focus]), len(found[other])),
                    best=other in baselines[:1],
                )


def comparison_frame(found: Sequence[Comparison]) -> pl.DataFrame:
    """One comparison a row."""
    return pl.DataFrame(
        [
            {
                "part": one.part,
                "metric": one.metric,
                "row": one.row,
                "against": one.against,
                "difference": one.difference.value,
                "low": one.difference.low,
                "high": one.difference.high,
                "p_value": one.difference.p_value,
                "users": one.difference.users,
                "seeds": min(one.seeds),
            }
            for one in found
        ]
    )


def _results(cells: Sequence[Cell], store: Store, part: str) -> dict[str, list[Results]]:
    """Finished runs of each row in ``part``, in the order of seeds."""
    found: dict[str, list[Results]] = {}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        if cell.part == part:
            stage = stage_of(cell.overrides)
            folder = store.find(stage.name, stage.signature)
            if folder is not None:
                found.setdefault(cell.row, []).append(Results.load(folder))
    return found


def _of_users(found: Found, name: str) -> Pairwise:
    @cache
    def figures(row: str) -> np.ndarray:
        return _per_user(found[row], name)

    return lambda first, second: difference_of_means(figures(first), figures(second), None, HOW)


def _of_auc(found: Found, name: str) -> Pairwise:
    @cache
    def resampled(row: str) -> ResampledAuc:
        return resampled_auc(*_clicks(found[row]), HOW)

    return lambda first, second: difference_of_auc(resampled(first), resampled(second), HOW)


def _of_gauc(found: Found, name: str) -> Pairwise:
    def difference(first: str, second: str) -> Difference:
        user, label, scores = _clicks(found[first])
        return difference_of_gauc(user, label, scores, _clicks(found[second])[2], HOW)

    return difference


DIFFERENCE: Mapping[str, Callable[[Found, str], Pairwise]] = {
    "recall": _of_users,
    "ndcg": _of_users,
    "auc": _of_auc,
    "gauc": _of_gauc,
}
"""How two rows are held against each other in a metric; what each row brings is computed once."""


def _clicks(runs: Sequence[Results]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """User and label of each test row, and every seed's scores."""
    rows = runs[0].rows
    return rows["user"], rows["label"], [run.rows["score"] for run in runs]


def _per_user(runs: Sequence[Results], name: str) -> np.ndarray:
    """The metric of each user, averaged over seeds, float64 ``[users]``; users are in the same order in every run."""
    kind, cutoff = name.split("@")
    cutoffs = torch.tensor([int(cutoff)])
    each = [
        PER_USER[kind](torch.from_numpy(run.rows["above"].copy()), torch.from_numpy(run.rows["tied"].copy()), cutoffs)
        for run in runs
    ]
    return torch.stack(each).mean(dim=0)[:, 0].numpy()
