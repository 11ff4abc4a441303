"""Stage `describe`: what a data set looks like: sizes, popularity, history lengths (paper, table 1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adasid_exp.artifacts.results import COUNTS, LENGTHS, METRICS
from adasid_exp.stages.base import Stage, plain
from adasid_exp.stages.loading import load_task
from adasid_exp.stages.prepare import Prepare

TOP_SHARES = (0.01, 0.1, 0.25, 0.5)
TASKS = ("retrieval", "ranking")


class Describe(Stage):
    """Prepared data -> figures of it, interactions per item (``counts.npy``) and per user (``lengths.npy``)."""

    name = "describe"
    version = 1

    @property
    def label(self) -> str:
        return self.cfg.data.name

    def settings(self) -> dict[str, Any]:
        return {"splits": {task: plain(self.cfg.splits[task]) for task in TASKS}}

    def inputs(self) -> dict[str, Stage]:
        return {"dataset": Prepare(self.cfg)}

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        tasks = {task: load_task(self.cfg, task, inputs["dataset"]) for task in TASKS}
        found = tasks["retrieval"].population()
        np.save(out / COUNTS, found.counts)
        np.save(out / LENGTHS, found.lengths)
        figures = {key: value for key, value in found.statistics.items() if value is not None}
        figures |= popularity_figures(found.counts) | length_figures(found.lengths) | {"days": found.days}
        for task, data in tasks.items():
            figures |= {f"{task}/{part}_rows": float(size) for part, size in data.sizes().items()}
        (out / METRICS).write_text(json.dumps({key: float(value) for key, value in figures.items()}, indent=1))
        return {"statistics": dict(found.statistics)}


def popularity_figures(counts: np.ndarray) -> dict[str, float]:
    """How unequally interactions fall on items: shares of the most popular, Gini, median.

    Args:
        counts: interactions of each item, ``[items]``.
    """
    descending = np.sort(counts)[::-1]
    total = max(1, int(descending.sum()))
    tops = {
        f"top_{share * 100:g}pct_share": float(descending[: max(1, round(share * len(counts)))].sum() / total)
        for share in TOP_SHARES
    }
    places = np.arange(1, len(counts) + 1)
    gini = float((len(counts) + 1 - 2 * (places * descending).sum() / total) / len(counts))
    return {
        **tops,
        "popularity_gini": gini,
        "item_count_median": float(np.median(counts)),
        "item_count_max": float(counts.max()),
        "items_without_interaction": float((counts == 0).sum()),
    }


def length_figures(lengths: np.ndarray) -> dict[str, float]:
    """History lengths of users: median, 95th percentile, longest."""
    return {
        "length_median": float(np.median(lengths)),
        "length_p95": float(np.quantile(lengths, 0.95)),
        "length_max": float(lengths.max()),
    }
