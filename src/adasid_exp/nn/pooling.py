"""How a history becomes one vector.

Histories are short and differ in length, so they come packed: the vectors of all valid steps, row after row,
with the row that each belongs to. A padded form would be three quarters padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MeanPooling(nn.Module):
    """Mean of a history's vectors; a zero vector for an empty history."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, target: Tensor, steps: Tensor, row: Tensor, length: Tensor) -> Tensor:
        """``target [rows, dim], steps [all steps, dim], row [all steps], length [rows] -> [rows, dim]``."""
        total = torch.zeros_like(target).index_add(0, row, steps)
        return total / length.clamp(min=1)[:, None]


class TargetAttention(nn.Module):
    """Sum of the history's vectors, weighted by how each meets the target (DIN, arXiv 1706.06978).

    The activation unit reads history, target, their difference and their product; as in DIN its outputs are
    not normalized, so the sum tells how much of the history is relevant. An empty history gives zeros.

    Args:
        dim: width of the vectors.
        hidden: hidden width of the activation unit (36 in the paper).
    """

    def __init__(self, *, dim: int, hidden: int) -> None:
        super().__init__()
        # A linear map of (history, target, history - target, history * target) in its three distinct parts.
        self.of_history = nn.Linear(2 * dim, hidden)
        self.of_target = nn.Linear(dim, hidden, bias=False)
        self.weight = nn.Linear(hidden, 1)

    def forward(self, target: Tensor, steps: Tensor, row: Tensor, length: Tensor) -> Tensor:
        """``target [rows, dim], steps [all steps, dim], row [all steps], length [rows] -> [rows, dim]``."""
        meeting = torch.cat([steps, steps * target[row]], 1)  # [all steps, 2 dim]
        hidden = F.relu(self.of_history(meeting) + self.of_target(target)[row])
        return torch.zeros_like(target).index_add(0, row, self.weight(hidden) * steps)
