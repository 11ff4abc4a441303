"""How a history becomes one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def valid_steps(length: Tensor, steps: int) -> Tensor:
    """Whether a step lies within its history: ``int64 [rows] -> bool [rows, steps]``."""
    return torch.arange(steps, device=length.device) < length[:, None]


class MeanPooling(nn.Module):
    """Mean of the history's vectors; a zero vector for an empty history."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, target: Tensor, history: Tensor, length: Tensor) -> Tensor:
        """``target [rows, dim], history [rows, steps, dim], length int64 [rows] -> [rows, dim]``."""
        share = valid_steps(length, history.shape[1]) / length.clamp(min=1)[:, None]
        return torch.bmm(share.to(history.dtype)[:, None], history).squeeze(1)


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

    def forward(self, target: Tensor, history: Tensor, length: Tensor) -> Tensor:
        """``target [rows, dim], history [rows, steps, dim], length int64 [rows] -> [rows, dim]``."""
        meeting = torch.cat([history, history * target[:, None]], 2)  # [rows, steps, 2 dim]
        hidden = F.relu(self.of_history(meeting) + self.of_target(target)[:, None])
        weight = self.weight(hidden).squeeze(2) * valid_steps(length, history.shape[1])
        return torch.bmm(weight[:, None], history).squeeze(1)
