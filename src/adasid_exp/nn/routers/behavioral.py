"""The behavior-guided dynamic router (ADA-SID, arXiv 2510.25622, Eq. 18)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.functional.alignment import alignment_weight
from adasid_exp.nn.mlp import MLP
from adasid_exp.nn.routers.base import Router


class SigmoidScaler(nn.Module):
    """The paper's ``sigmoid(richness)``, between 0.5 and 0.731."""

    def forward(self, richness: Tensor) -> Tensor:
        """``[items]`` to ``[items]``."""
        return torch.sigmoid(richness)


class ControllerScaler(nn.Module):
    """The alignment controller's curve (Eq. 14): poor items are all but silenced."""

    def __init__(self, *, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta

    def forward(self, richness: Tensor) -> Tensor:
        """``[items]`` to ``[items]``."""
        return alignment_weight(richness, alpha=self.alpha, beta=self.beta)


class UnitScaler(nn.Module):
    """No scaling: richness reaches the router through the behavior embedding alone."""

    def forward(self, richness: Tensor) -> Tensor:
        """``[items]`` to ones ``[items]``."""
        return torch.ones_like(richness)


class BehavioralRouter(Router):
    """Non-negative weight of every behavior slot; an exact 0 switches the slot off.

    Args:
        dim: width of the behavior embedding.
        slots: behavior slots.
        hidden: width of the hidden layer.
        bias: starting value of the output bias; positive, since a gate shut for all items gets no gradient.
        scaler: richness ``[items]`` to the factor ``[items]`` in front of the gates.
        bound: applied to the weights, ``nn.Identity`` or ``nn.Tanh``.
        threshold: a slot is emitted only where its weight is above; needs no new training when changed.
    """

    no_weight_decay = True

    def __init__(
        self,
        *,
        dim: int,
        slots: int,
        hidden: int,
        bias: float,
        scaler: nn.Module,
        bound: nn.Module,
        threshold: float,
    ) -> None:
        super().__init__()
        self.gates = MLP(widths=(dim, hidden, slots))
        nn.init.constant_(self.gates[-1].bias, bias)  # type: ignore[arg-type]
        self.scaler = scaler
        self.bound = bound
        self.threshold = threshold

    def forward(self, behavior: Tensor, richness: Tensor) -> Tensor:
        return self.bound(self.scaler(richness)[:, None] * torch.relu(self.gates(behavior)))

    def emitted(self, weights: Tensor) -> Tensor:
        return weights > self.threshold
