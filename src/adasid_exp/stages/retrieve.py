"""Stage `retrieve`: next-item retrieval over the whole catalogue, leave-one-out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from adasid_exp.artifacts.results import Results
from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.data.task_data import TaskData
from adasid_exp.stages.assign import Assign
from adasid_exp.stages.base import Stage, plain
from adasid_exp.stages.behave import Behave, trained_behavior
from adasid_exp.stages.building import build, identity, names_of
from adasid_exp.stages.fitting import outcomes_of, save_weights, seed_everything, train, training_settings
from adasid_exp.stages.loading import load_task, streaming_settings
from adasid_exp.stages.prepare import Prepare
from adasid_exp.stages.ranks import first_rank

WEIGHTS = "model.safetensors"
TASK = "retrieval"


class Retrieve(Stage):
    """SIDs (or none, for the reference rows) and sequences -> Recall and NDCG."""

    name = "retrieve"
    version = 1
    learner = "retriever"
    objective = "val/ndcg@50"

    @property
    def label(self) -> str:
        method = self.cfg.tokenizer.name + "-" if "sids" in names_of(self.cfg.retriever) else ""
        return f"{self.cfg.data.name}-{method}{self.cfg.retriever.name}"

    def settings(self) -> dict[str, Any]:
        return {
            "retriever": identity(self.cfg.retriever),
            "split": plain(self.cfg.splits[TASK]),
            "history": self.cfg.scale.history,
            **streaming_settings(self.cfg),
            "seed": self.cfg.seed,
            **training_settings(self.cfg),
        }

    def inputs(self) -> dict[str, Stage]:
        inputs: dict[str, Stage] = {"dataset": Prepare(self.cfg)}
        if "sids" in names_of(self.cfg.retriever):
            inputs["sids"] = Assign(self.cfg, TASK)
        if "behavior" in names_of(self.cfg.retriever):
            inputs["behavior"] = Behave(self.cfg, TASK)
        return inputs

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        task = load_task(self.cfg, TASK, inputs["dataset"])
        data = task.sequences(batch_size=self.cfg.retriever.fit.batch_size)
        seed_everything(self.cfg.seed)
        model = retriever_model(self.cfg.retriever, self.cfg, task, inputs)
        module, trainer = train(self, self.cfg.retriever, model, data, work)
        metrics = {
            **trainer.validate(module, datamodule=data, verbose=False)[0],
            **trainer.test(module, datamodule=data, verbose=False)[0],
        }
        rows = outcomes_of(module)
        if first_rank():
            save_results(out, metrics, rows)
            save_weights(model, out / WEIGHTS)
        return {"users": len(rows["user"])}


def retriever_model(node: DictConfig, cfg: DictConfig, task: TaskData, inputs: Mapping[str, Path]) -> Any:
    """The retriever of ``node``, untrained.

    Args:
        node: the retriever.
        cfg: the whole configuration.
        task: the training part that is counted and recommended from.
        inputs: artifact folders by role.
    """
    counts = task.counts()
    return build(
        node,
        items=lambda: len(counts),
        counts=lambda: torch.from_numpy(counts),
        sids=lambda: SemanticIds.load(inputs["sids"]).table(),
        histories=task.histories,
        behavior=lambda: trained_behavior(cfg.behavior, counts, inputs["behavior"]),
    )


def save_results(out: Path, metrics: Mapping[str, Any], rows: Mapping[str, np.ndarray]) -> None:
    """Writes what validation and test found."""
    Results(metrics={key: float(value) for key, value in metrics.items()}, rows=rows).save(out)
