"""The training loop of retrievers: next-item loss, full-catalogue ranking on validation and test."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from adasid_exp.functional.ranks import gathered
from adasid_exp.nn.metrics.retrieval import RetrievalMetrics
from adasid_exp.retrievers.base import Retriever, TrainableRetriever
from adasid_exp.training.clipping import ClippedModule
from adasid_exp.training.metric_log import ScalarMeans
from adasid_exp.training.optimizers import adamw, warmup_cosine
from adasid_exp.types import SequenceBatch

_OUTCOMES = ("user", "above", "tied", "sid_above", "sid_tied")


class RetrieverModule(ClippedModule):
    """Trains a retriever and ranks the held-out items of validation and test.

    Logs ``val/recall@50``, ``val/ndcg@50``, ``val/sid_recall@50``, ... and the same under ``test/``, once an
    epoch. After a test, `outcomes` has one row per user.

    Args:
        model: what to train and measure; one that cannot be trained may only be measured.
        total_steps: optimiser steps of the whole training.
        learning_rate: peak of the curve.
        weight_decay: of matrices; embedding tables, biases and norms are not decayed.
        warmup_steps: steps of rising learning rate (at most a tenth of training).
        floor: share of the peak at which the curve ends.
        cutoffs: lengths of the lists that Recall and NDCG look at.
    """

    hot = "loss"
    """The model's method that training spends its time in: what may be compiled."""

    def __init__(
        self,
        *,
        model: Retriever,
        total_steps: int,
        learning_rate: float,
        weight_decay: float,
        warmup_steps: int,
        floor: float,
        cutoffs: list[int],
    ) -> None:
        super().__init__()
        self.model = model
        self.total_steps = total_steps
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup_steps, self.floor = warmup_steps, floor
        self.validation = RetrievalMetrics(cutoffs=tuple(cutoffs))
        self.testing = RetrievalMetrics(cutoffs=tuple(cutoffs))
        self.scalars = ScalarMeans()
        self._outcomes: list[Tensor] = []

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = adamw(self.model, learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        scheduler = warmup_cosine(
            optimizer, warmup_steps=self.warmup_steps, total_steps=self.total_steps, floor=self.floor
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        if not isinstance(self.model, TrainableRetriever):
            raise ValueError(f"{type(self.model).__name__} has nothing to train: its fit.epochs must be 0")
        loss = self.model.loss(batch)
        if not loss.requires_grad:  # no rows: the other ranks wait for this one's gradients all the same
            loss = loss + 0.0 * torch.stack([p.sum() for p in self.model.parameters() if p.requires_grad]).sum()
        self.scalars.add({"loss": loss})
        return loss

    def on_train_epoch_end(self) -> None:
        means = {f"train/{name}": value for name, value in self.scalars.means().items()}
        self.scalars.reset()
        for logger in self.loggers:
            logger.log_metrics(means, step=self.global_step)

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        if len(batch.user) == 0:  # a rank without rows takes as many steps as the others
            return
        self.validation.update(self.model.rank(batch))

    def on_validation_epoch_end(self) -> None:
        self._report("val", self.validation)

    def on_test_epoch_start(self) -> None:
        self._outcomes.clear()

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        if len(batch.user) == 0:
            return
        rank = self.model.rank(batch)
        self.testing.update(rank)
        self._outcomes.append(torch.stack([batch.user, rank.above, rank.tied, rank.sid_above, rank.sid_tied], dim=1))

    def on_test_epoch_end(self) -> None:
        self._report("test", self.testing)

    def outcomes(self) -> dict[str, Tensor]:
        """What the last test found for each user of all ranks, sorted by user.

        Returns:
            ``user``, ``above``, ``tied``, ``sid_above`` and ``sid_tied`` (see `TargetRank`), int64
            ``[users]``.
        """
        rows = torch.cat([part.cpu() for part in self._outcomes] or [torch.zeros(0, len(_OUTCOMES)).long()])
        rows, _ = gathered(rows)
        rows = rows[rows[:, 0].argsort(stable=True)]
        return dict(zip(_OUTCOMES, rows.unbind(1), strict=True))

    def _report(self, split: str, metrics: RetrievalMetrics) -> None:
        self.log_dict({f"{split}/{name}": value.float() for name, value in metrics.compute().items()})
        metrics.reset()
