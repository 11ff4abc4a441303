"""The router of ADA-SID's third version (ADC-SID): fixed slots with soft weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.nn.mlp import MLP
from adasid_exp.nn.routers.base import Router


class SoftRouter(Router):
    """A weight above 0 for every behavior slot, so that none is ever ``PAD``.

    The third version prints Eq. 18 unchanged, whose exact zeros would leave slots without weight, but draws
    weights in (0, 1) and gives every item the same length; a sigmoid in the place of the ReLU does both.

    Args:
        dim: width of the behavior embedding.
        slots: behavior slots.
        hidden: width of the hidden layer.
        bias: starting value of the output bias.
        scaler: richness ``[items]`` to the factor ``[items]`` in front of the gates.
    """

    no_weight_decay = True

    def __init__(self, *, dim: int, slots: int, hidden: int, bias: float, scaler: nn.Module) -> None:
        super().__init__()
        self.gates = MLP(widths=(dim, hidden, slots))
        nn.init.constant_(self.gates[-1].bias, bias)  # type: ignore[arg-type]
        self.scaler = scaler

    def forward(self, behavior: Tensor, richness: Tensor) -> Tensor:
        return self.scaler(richness)[:, None] * torch.sigmoid(self.gates(behavior))

    def emitted(self, weights: Tensor) -> Tensor:
        return torch.ones_like(weights, dtype=torch.bool)
