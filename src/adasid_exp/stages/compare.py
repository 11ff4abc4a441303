"""Is the best row better than the next? Paired bootstraps over users, from the rows that runs keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from adasid_exp.artifacts.results import Results
from adasid_exp.artifacts.store import Store
from adasid_exp.functional.ranking import expected_ndcg, expected_recall
from adasid_exp.reporting.statistics import (
    Bootstrap,
    Difference,
    difference_of_auc,
    difference_of_gauc,
    difference_of_means,
)
from adasid_exp.stages.grid import Cell, Row
from adasid_exp.stages.schedule import stage_of

HOW = Bootstrap(resamples=2000, level=0.95, seed=0)
PER_USER = {"recall": expected_recall, "ndcg": expected_ndcg}
PER_ROW = {"auc": difference_of_auc, "gauc": difference_of_gauc}


def comparisons(
    rows: Mapping[str, Row], cells: Sequence[Cell], store: Store, metrics: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """One line per metric: the best method against the next best, on the test split.

    Args:
        rows: the table's rows; reference rows are left out.
        cells: the table's runs.
        store: where they are.
        metrics: what to compare in each part, e.g. ``{"retrieval": ["recall@50"], "ranking": ["auc"]}``.
    """
    for part, names in metrics.items():
        found = _results(rows, cells, store, part)
        if len(found) < 2:
            continue
        for name in names:
            mean = {method: np.mean([r.metrics[f"test/{name}"] for r in runs]) for method, runs in found.items()}
            best, next_best = sorted(mean, key=lambda method: -mean[method])[:2]
            difference, seeds = _difference(found[best], found[next_best], name)
            yield (
                f"{rows[best].label} - {rows[next_best].label}, {name}: {difference.value:+.4f}, "
                f"95 % interval [{difference.low:+.4f}, {difference.high:+.4f}], p = {difference.p_value:.4f}, "
                f"{difference.users} users, {seeds} (paired bootstrap over users)."
            )


def _results(rows: Mapping[str, Row], cells: Sequence[Cell], store: Store, part: str) -> dict[str, list[Results]]:
    """Finished runs of each method that competes in ``part``, in the order of seeds."""
    found: dict[str, list[Results]] = {}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        if cell.part == part and not rows[cell.row].reference:
            stage = stage_of(cell.overrides)
            folder = store.find(stage.name, stage.signature)
            if folder is not None:
                found.setdefault(cell.row, []).append(Results.load(folder))
    return found


def _difference(first: Sequence[Results], second: Sequence[Results], name: str) -> tuple[Difference, str]:
    kind = name.split("@")[0]
    if kind in PER_USER:
        mine, theirs = _per_user(first, name), _per_user(second, name)
        return difference_of_means(mine, theirs, None, HOW), f"mean of {len(first)} against {len(second)} seeds"
    mine_rows, their_rows = first[0].rows, second[0].rows
    compare = PER_ROW[kind]
    return compare(mine_rows["user"], mine_rows["label"], mine_rows["score"], their_rows["score"], HOW), "first seed"


def _per_user(runs: Sequence[Results], name: str) -> np.ndarray:
    """The metric of each user, averaged over seeds, float64 ``[users]``; users are in the same order in every run."""
    kind, cutoff = name.split("@")
    cutoffs = torch.tensor([int(cutoff)])
    each = [
        PER_USER[kind](torch.from_numpy(run.rows["above"].copy()), torch.from_numpy(run.rows["tied"].copy()), cutoffs)
        for run in runs
    ]
    return torch.stack(each).mean(dim=0)[:, 0].numpy()
