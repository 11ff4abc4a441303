"""No router: every item uses every behavior slot with weight 1."""

from __future__ import annotations

import torch
from torch import Tensor

from adasid_exp.nn.routers.base import Router


class UniformRouter(Router):
    """R = 1, so no slot is ever ``PAD`` (ADA-SID's "w/o behavior-guided dynamic router").

    Args:
        dim: width of the behavior embedding (not looked at).
        slots: behavior slots.
    """

    def __init__(self, *, dim: int, slots: int) -> None:
        super().__init__()
        self.slots = slots

    def forward(self, behavior: Tensor, richness: Tensor) -> Tensor:
        return richness.new_ones(richness.numel(), self.slots)

    def emitted(self, weights: Tensor) -> Tensor:
        return torch.ones_like(weights, dtype=torch.bool)
