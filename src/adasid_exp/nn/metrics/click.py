"""Click metrics over a whole split, exact also across processes."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from adasid_exp.functional.click import click_summary

_TYPES = {"user": torch.int64, "logit": torch.float32, "label": torch.int8}


class ClickMetrics(Metric):
    """Keeps (user, logit, label) of every row and computes AUC, both GAUCs and log loss on all of them.

    ``compute`` gathers the rows of all processes, whose parts may differ in length or be empty, and returns
    the fields of `ClickSummary` and ``logloss`` (nats) as 0-d float64 tensors by name.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False

    user: list[Tensor]
    logit: list[Tensor]
    label: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in _TYPES:
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self._lay_empty_rows()

    def update(self, user: Tensor, logit: Tensor, label: Tensor) -> None:
        """Adds rows ``[rows]``: dense user index, score as a logit, 1 or 0."""
        for name, rows in (("user", user), ("logit", logit), ("label", label)):
            getattr(self, name).append(rows.detach().to(_TYPES[name]))

    def compute(self) -> dict[str, Tensor]:
        """Each figure by name; nan where it is undefined."""
        rows = self.rows()
        summary = click_summary(rows["user"], rows["logit"], rows["label"])
        loss = F.binary_cross_entropy_with_logits(rows["logit"].double(), rows["label"].double())
        return {**asdict(summary), "logloss": loss}

    def rows(self) -> dict[str, Tensor]:
        """What was added, in order: ``user`` int64, ``logit`` float32, ``label`` int8, each ``[rows]``."""
        return {name: dim_zero_cat(getattr(self, name)) for name in _TYPES}

    def reset(self) -> None:
        """Forgets all rows."""
        super().reset()
        self._lay_empty_rows()

    def _lay_empty_rows(self) -> None:
        # A process without rows must still bring tensors of the right type to the gather.
        for name, dtype in _TYPES.items():
            getattr(self, name).append(torch.empty(0, dtype=dtype, device=self.device))
