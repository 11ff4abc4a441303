"""Stage `stratify`: figures of a finished run, apart for head and tail of the catalogue (paper, figure 5)."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch

from adasid_exp.artifacts.results import METRICS, Results
from adasid_exp.data.task_data import TaskData
from adasid_exp.functional.click import wins_by_group
from adasid_exp.functional.ranking import expected_ndcg, expected_recall
from adasid_exp.functional.strata import MIDDLE, NAMES, strata_of
from adasid_exp.stages.assign import ITEMS, Assign
from adasid_exp.stages.base import Stage, TaskStage
from adasid_exp.stages.calibrate import Calibrate
from adasid_exp.stages.loading import load_task
from adasid_exp.stages.prepare import Prepare
from adasid_exp.stages.rank import Rank
from adasid_exp.stages.retrieve import Retrieve

TIE_SEED = 0
"""Orders items of equal count; fixed, so that all methods and seeds are read on the same strata."""


class Stratify(TaskStage):
    """Base: one run's figures by stratum, items counted in the training part of the run's own task."""

    version = 1
    of: ClassVar[type[Stage]]

    @property
    def label(self) -> str:
        return self.upstream["run"].label

    def settings(self) -> dict[str, Any]:
        return {"share": self.cfg.stage.share}

    def inputs(self) -> dict[str, Stage]:
        run = self.of(self.cfg, self.task) if issubclass(self.of, TaskStage) else self.of(self.cfg)
        return {"dataset": Prepare(self.cfg), "run": run}

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        task = load_task(self.cfg, self.split_name, inputs["dataset"])
        count = self.popularity(task)
        strata = strata_of(count, self.cfg.stage.share, TIE_SEED)
        held_out = task.held_out()
        found = self.read(inputs["run"])
        metrics = {
            f"{NAMES[stratum]}/{name}": value
            for stratum in range(len(NAMES))
            if stratum != MIDDLE
            for name, value in self.figures(found, strata == stratum, held_out).items()
        }
        (out / METRICS).write_text(json.dumps(dict(sorted(metrics.items())), indent=1))
        counts = {f"largest_count_{name}": int(count[strata == i].max(initial=0)) for i, name in enumerate(NAMES)}
        return {"items": int((strata != MIDDLE).sum()) // 2, **counts}

    @property
    def split_name(self) -> str:
        """The task whose training part popularity is counted in."""
        return self.task

    def popularity(self, task: TaskData) -> np.ndarray:
        """What head and tail are told by, int64 ``[items]``."""
        return task.counts()

    def read(self, run: Path) -> Mapping[str, np.ndarray]:
        """What the run's artifact keeps of each test row, as columns."""
        return Results.load(run).rows

    @abstractmethod
    def figures(self, rows: Mapping[str, np.ndarray], inside: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
        """Figures of the stratum's items.

        Args:
            rows: see `read`.
            inside: whether an item belongs to the stratum, bool ``[items]``.
            held_out: the test item of each user, int64 ``[users]``, for runs that keep a row a user.
        """


class StratifyRank(Stratify):
    """AUC over the test rows whose item is in the stratum."""

    name = "stratify_rank"
    of = Rank

    @property
    def split_name(self) -> str:
        return "ranking"

    def popularity(self, task: TaskData) -> np.ndarray:
        return task.popularity()

    def figures(self, rows: Mapping[str, np.ndarray], inside: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
        chosen = inside[rows["item"]]
        score, label = (torch.from_numpy(rows[name][chosen].copy()) for name in ("score", "label"))
        wins = wins_by_group(score, label, None, 1)
        return {"auc": float(wins.auc[0]), "rows": float(chosen.sum()), "liked": float(wins.positives[0])}


class StratifyRetrieve(Stratify):
    """Recall and NDCG of the users whose test item is in the stratum."""

    name = "stratify_retrieve"
    of: ClassVar[type[Stage]] = Retrieve

    @property
    def split_name(self) -> str:
        return "retrieval"

    def figures(self, rows: Mapping[str, np.ndarray], inside: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
        chosen = inside[held_out[rows["user"]]]
        above, tied = (torch.from_numpy(rows[name][chosen].copy()) for name in ("above", "tied"))
        cutoffs = torch.tensor(tuple(self.cfg.stage.cutoffs))
        figures = {"users": float(chosen.sum())}
        for name, metric in (("recall", expected_recall), ("ndcg", expected_ndcg)):
            means = metric(above, tied, cutoffs).mean(dim=0)
            figures |= {f"{name}@{cutoff}": float(mean) for cutoff, mean in zip(cutoffs.tolist(), means, strict=True)}
        return figures

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "cutoffs": list(self.cfg.stage.cutoffs)}


class StratifyCalibrate(StratifyRetrieve):
    """The same of a calibrated run."""

    name = "stratify_calibrate"
    of = Calibrate


class StratifyAssign(Stratify):
    """Mean reconstruction error, active slots and diagnostics of the stratum's items."""

    name = "stratify_assign"
    of = Assign

    def read(self, run: Path) -> Mapping[str, np.ndarray]:
        """The per-item columns."""
        items = pl.read_parquet(run / ITEMS).drop("item_id")
        return {name: items[name].to_numpy() for name in items.columns}

    def figures(self, rows: Mapping[str, np.ndarray], inside: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
        return {name: float(np.mean(column[inside], dtype=np.float64)) for name, column in rows.items()}
