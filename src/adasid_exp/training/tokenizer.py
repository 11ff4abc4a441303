"""The training loop of tokenizers: sums the terms a model names, logs each, calls the model's hooks."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from adasid_exp.functional.ranks import (
    LaterSums,
    all_from_first_rank,
    over_ranks,
    rows_by_rank,
    share_of,
    shared_rows,
)
from adasid_exp.nn.metrics.codebook import CodebookUsage, SidCollisions
from adasid_exp.tokenizers.base import TrainableTokenizer, in_chunks, part_of
from adasid_exp.training.clipping import ClippedModule
from adasid_exp.training.metric_log import ScalarMeans
from adasid_exp.training.optimizers import LONGEST_WARMUP, adamw, warmup_cosine
from adasid_exp.types import ItemBatch

CHUNK = 8192
"""Items encoded at once when the whole catalogue is measured."""


class TokenizerModule(ClippedModule):
    """Trains a tokenizer on batches of distinct items; ``trainer.datamodule.items`` is the whole catalogue.

    Args:
        model: the tokenizer, its statistics fitted.
        total_steps: optimiser steps of the whole training.
        learning_rate: peak of the curve.
        weight_decay: of matrices; codebooks, gates and vectors are not decayed.
        warmup_steps: steps of rising learning rate (at most a tenth of training).
        floor: share of the peak at which the curve ends.
        bypass_steps: first steps without quantization (at most a tenth of training).
    """

    hot = "losses"
    """The model's method that training spends its time in: what may be compiled."""

    def __init__(
        self,
        *,
        model: TrainableTokenizer,
        total_steps: int,
        learning_rate: float,
        weight_decay: float,
        warmup_steps: int,
        floor: float,
        bypass_steps: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.total_steps = total_steps
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup_steps, self.floor = warmup_steps, floor
        self.bypass_steps = min(bypass_steps, int(LONGEST_WARMUP * total_steps))
        self.scalars = ScalarMeans()
        self.sums = LaterSums()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = adamw(self.model, learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        scheduler = warmup_cosine(
            optimizer, warmup_steps=self.warmup_steps, total_steps=self.total_steps, floor=self.floor
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, batch: ItemBatch, batch_idx: int) -> None:
        if not self.model.started and self.global_step >= self.bypass_steps:
            self.model.start(self.catalogue())
            self.agree()

    def training_step(self, batch: ItemBatch, batch_idx: int) -> Tensor:
        with shared_rows(batch.shares or rows_by_rank(len(batch.index))), self.sums:
            losses = self.model.losses(batch)
        total = torch.stack(list(losses.values())).sum()
        self.scalars.add({**losses, "total": total})
        return total

    def on_after_backward(self) -> None:
        self.sums.read()

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        # Here and not in on_train_batch_end: a checkpoint within an epoch is written before that hook.
        super().optimizer_step(*arguments, **options)
        self.model.after_step(self.global_step + 1, self.total_steps)

    def on_train_epoch_end(self) -> None:
        self.model.end_epoch(self.catalogue(), self.global_step, self.total_steps)
        self.agree()
        self.report({f"train/{name}": value for name, value in {**self.scalars.means(), **self.gauges()}.items()})
        self.scalars.reset()
        # Here and not in on_train_end, so that the last checkpoint holds the finished model.
        if self.global_step >= self.total_steps:
            self.model.finalize(self.catalogue())
            self.agree()
            self.report({f"final/{name}": value for name, value in self.summary().items()})

    def gauges(self) -> dict[str, float]:
        """The model's own, in one transfer."""
        gauges = self.model.gauges()
        return dict(zip(gauges, torch.stack(list(gauges.values())).tolist(), strict=True)) if gauges else {}

    @torch.no_grad()
    def agree(self) -> None:
        """Every rank takes rank 0's state: k-means on other hardware may round otherwise, and codes would part."""
        all_from_first_rank(self.model.state_dict().values())

    def catalogue(self) -> ItemBatch:
        """Every item, on the model's device."""
        return self.trainer.datamodule.items.to(self.device)  # type: ignore[attr-defined]

    def report(self, scalars: dict[str, float]) -> None:
        """Hand scalars to the loggers; ``self.log`` would cost half a millisecond a scalar a step."""
        for logger in self.loggers:
            logger.log_metrics(scalars, step=self.global_step)

    @torch.no_grad()
    def summary(self) -> dict[str, float]:
        """Reconstruction error by modality and codebook figures over the whole catalogue by hard codes."""
        was_training = self.model.training
        self.model.eval()
        usage, collisions = CodebookUsage(sizes=self.model.layout.sizes), SidCollisions()
        usage, collisions = usage.to(self.device), collisions.to(self.device)
        errors: dict[str, Tensor] = {}
        catalogue = self.catalogue()
        first, last = share_of(len(catalogue.index))
        for items in in_chunks(part_of(catalogue, first, last), CHUNK):
            codes = self.model.encode(items).codes
            usage.update(codes)
            collisions.update(codes)
            targets = self.model.targets(items)
            for name, values in self.model.reconstruct(items).items():
                errors[name] = errors.get(name, 0.0) + (values - targets[name]).square().mean(dim=1).sum()
        self.model.train(was_training)
        count = catalogue.index.numel()
        recon = {f"recon_{name}": float(over_ranks(error)) / count for name, error in errors.items()}
        codebook = {name: float(value) for name, value in {**usage.compute(), **collisions.compute()}.items()}
        return {"recon": sum(recon.values()) / len(recon), **recon, **codebook}
