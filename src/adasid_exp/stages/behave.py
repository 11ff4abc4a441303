"""Stage `behave`: behavior embeddings, from a sequence model that saw its task's training part only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from scipy.stats import spearmanr

from adasid_exp.artifacts.item_vectors import VECTORS
from adasid_exp.artifacts.results import METRICS
from adasid_exp.stages.base import Stage, TaskStage, plain
from adasid_exp.stages.building import build, identity
from adasid_exp.stages.fitting import save_weights, seed_everything, train, training_settings
from adasid_exp.stages.loading import load_task, streaming_settings
from adasid_exp.stages.prepare import Prepare
from adasid_exp.stages.ranks import first_rank

WEIGHTS = "model.safetensors"


class Behave(TaskStage):
    """Training interactions of one task -> item vectors and the trained model."""

    name = "behave"
    version = 1
    learner = "behavior"

    @property
    def label(self) -> str:
        return f"{self.cfg.data.name}-{self.cfg.behavior.name}-{self.task}"

    def settings(self) -> dict[str, Any]:
        return {
            "behavior": identity(self.cfg.behavior),
            "split": plain(self.cfg.splits[self.task]),
            "history": self.cfg.scale.history,
            **streaming_settings(self.cfg),
            "seed": self.cfg.seed,
            **training_settings(self.cfg),
        }

    def inputs(self) -> dict[str, Stage]:
        return {"dataset": Prepare(self.cfg)}

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        task = load_task(self.cfg, self.task, inputs["dataset"])
        counts = task.counts()
        data = task.sequences(batch_size=self.cfg.behavior.fit.batch_size)
        seed_everything(self.cfg.seed)
        model = behavior_model(self.cfg.behavior, counts)
        module, trainer = train(self, self.cfg.behavior, model, data, work)
        metrics = trainer.validate(module, datamodule=data, verbose=False)[0]
        vectors = model.item_vectors().detach().float().cpu().numpy()
        figures = {key: float(value) for key, value in metrics.items()}
        figures["norm_popularity_spearman"] = norm_correlation(vectors, counts)
        if first_rank():
            np.save(out / VECTORS, vectors)
            save_weights(model, out / WEIGHTS)
            (out / METRICS).write_text(json.dumps(figures, indent=1))
        return {"dim": int(vectors.shape[1]), **figures}


def norm_correlation(vectors: np.ndarray, counts: np.ndarray) -> float:
    """Spearman correlation of ``|e_b|`` and the training count over items with interactions."""
    seen = counts > 0
    return float(spearmanr(np.linalg.norm(vectors, axis=1)[seen], counts[seen]).statistic)


def behavior_model(node: DictConfig, counts: np.ndarray) -> Any:
    """The untrained sequence model of a behavior node."""
    return build(node, items=lambda: len(counts), counts=lambda: torch.from_numpy(counts))


def trained_behavior(node: DictConfig, counts: np.ndarray, artifact: Path) -> Any:
    """The sequence model with the weights of a `behave` artifact."""
    model = behavior_model(node, counts)
    model.load_state_dict(load_file(artifact / WEIGHTS))
    return model
