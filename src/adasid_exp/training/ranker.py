"""The training loop of rankers: log loss on impressions, exact AUC and GAUC on held-out ones."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from adasid_exp.functional.ranks import gathered, mean_over_ranks, ranks
from adasid_exp.nn.metrics.click import ClickMetrics
from adasid_exp.rankers.base import Ranker
from adasid_exp.training.clipping import ClippedModule
from adasid_exp.training.metric_log import ScalarMeans
from adasid_exp.training.optimizers import warmup_cosine
from adasid_exp.types import ImpressionBatch


class RankerModule(ClippedModule):
    """Trains a ranker by binary cross-entropy; logs ``val/auc``, ``val/gauc``, ``val/logloss`` and counts.

    Args:
        model: the ranker.
        total_steps: optimizer steps of the whole training.
        learning_rate: Adam's, at its peak.
        embedding_l2: strength of the L2 penalty on embedding tables: ``embedding_l2 / 2 * |table|^2`` a step.
        warmup_steps: steps of rising learning rate (at most a tenth of training).
        floor: share of the peak at which the learning rate ends; 1 keeps it.
    """

    hot = "forward"
    """The model's method that training spends its time in: what may be compiled."""

    def __init__(
        self,
        *,
        model: Ranker,
        total_steps: int,
        learning_rate: float,
        embedding_l2: float,
        warmup_steps: int,
        floor: float,
    ) -> None:
        super().__init__()
        self.model = model
        self.total_steps = total_steps
        self.learning_rate, self.embedding_l2 = learning_rate, embedding_l2
        self.warmup_steps, self.floor = warmup_steps, floor
        self.scalars = ScalarMeans()
        self.val_rows, self.test_rows = ClickMetrics(), ClickMetrics()
        self.test_items: list[Tensor] = []

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = Adam(parameter_groups(self.model, self.embedding_l2), lr=self.learning_rate, fused=True)
        scheduler = warmup_cosine(
            optimizer, warmup_steps=self.warmup_steps, total_steps=self.total_steps, floor=self.floor
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: ImpressionBatch, batch_idx: int) -> Tensor:
        logits = self.model(batch).float()
        if ranks() == 1:
            loss = F.binary_cross_entropy_with_logits(logits, batch.label)
        else:
            loss = mean_over_ranks(F.binary_cross_entropy_with_logits(logits, batch.label, reduction="none"))
        self.scalars.add({"logloss": loss})
        return loss

    def on_train_epoch_end(self) -> None:
        means = {f"train/{name}": value for name, value in self.scalars.means().items()}
        for logger in self.loggers:
            logger.log_metrics(means, step=self.global_step)
        self.scalars.reset()

    def on_validation_epoch_start(self) -> None:
        self.val_rows.reset()

    def validation_step(self, batch: ImpressionBatch, batch_idx: int) -> None:
        self.val_rows.update(batch.user, self.model(batch), batch.label)

    def on_validation_epoch_end(self) -> None:
        self._log_figures("val", self.val_rows)

    def on_test_epoch_start(self) -> None:
        self.test_rows.reset()
        self.test_items.clear()

    def test_step(self, batch: ImpressionBatch, batch_idx: int) -> None:
        self.test_rows.update(batch.user, self.model(batch), batch.label)
        self.test_items.append(batch.item)

    def on_test_epoch_end(self) -> None:
        self._log_figures("test", self.test_rows)

    def outcomes(self) -> dict[str, Tensor]:
        """All ranks' test rows, in the order of one process: user, item, label (1, 0), score (a logit), ``[rows]``."""
        rows = self.test_rows.rows()
        items = torch.cat(self.test_items) if self.test_items else rows["user"]
        columns = {"user": rows["user"], "item": items, "label": rows["label"], "score": rows["logit"]}
        steps = torch.arange(len(self.test_items)).repeat_interleave(torch.tensor([len(i) for i in self.test_items]))
        # A step's rows are shared out rank by rank.
        order = gathered(steps)[0].argsort(stable=True)
        return {name: gathered(values.cpu())[0][order] for name, values in columns.items()}

    def _log_figures(self, part: str, rows: ClickMetrics) -> None:
        self.log_dict({f"{part}/{name}": value.float() for name, value in rows.compute().items()})


def parameter_groups(model: nn.Module, embedding_l2: float) -> list[dict[str, object]]:
    """Parameters for an optimizer: embedding tables with the L2 penalty as weight decay, others without."""
    tables = {id(p) for part in model.modules() if isinstance(part, nn.Embedding) for p in part.parameters()}
    return [
        {"params": [p for p in model.parameters() if id(p) in tables], "weight_decay": embedding_l2},
        {"params": [p for p in model.parameters() if id(p) not in tables], "weight_decay": 0.0},
    ]
