"""Dropout whose mask costs a byte, not a float, of random numbers on the CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout that draws one random byte an element on the CPU, and torch's own elsewhere.

    On the CPU torch's Bernoulli draws are a quarter of an eager transformer step at these sizes. The chance
    is rounded to a multiple of 1/256 there; the survivors are scaled by the chance actually used, so the
    mean is exact.

    Args:
        chance: share of elements set to zero, in [0, 1).
    """

    def __init__(self, *, chance: float) -> None:
        super().__init__()
        if not 0 <= chance < 1:
            raise ValueError(f"the chance of dropout must be in [0, 1), got {chance}")
        self.chance = chance
        self.threshold = min(round(chance * 256), 255)

    def forward(self, inputs: Tensor) -> Tensor:
        """The inputs, any shape, with a random part at zero and the rest scaled up; unchanged in
        evaluation."""
        if not self.training or self.threshold == 0:
            return inputs
        if inputs.device.type != "cpu":
            return F.dropout(inputs, self.chance)
        return inputs * self._mask(inputs)

    def _mask(self, inputs: Tensor) -> Tensor:
        words = torch.empty(inputs.numel() // 8 + 1, dtype=torch.int64).random_(-(2**63), None)
        draws = words.view(torch.uint8)[: inputs.numel()].view(inputs.shape)
        return (draws >= self.threshold).to(inputs.dtype).mul_(256 / (256 - self.threshold))

    def extra_repr(self) -> str:
        return f"chance={self.chance}"
