"""Groups of two-layer experts that look at one input, computed together."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ExpertGroup(nn.Module):
    """``experts`` two-layer perceptrons on the same input (ADA-SID, arXiv 2510.25622, Eq. 4 and 6).

    Their first layers are one matrix product and their second layers one batched product.

    Args:
        dim: width of the input.
        hidden: width of each expert's hidden layer.
        code: width of each expert's latent.
        experts: how many.
    """

    def __init__(self, *, dim: int, hidden: int, code: int, experts: int) -> None:
        super().__init__()
        self.experts = experts
        self.hidden = nn.Linear(dim, experts * hidden)
        bound = 1 / math.sqrt(hidden)  # as nn.Linear starts
        self.weight = nn.Parameter(torch.empty(experts, hidden, code).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(experts, 1, code).uniform_(-bound, bound))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[items, dim]`` to ``[items, experts, code]``."""
        hidden = torch.relu(self.hidden(inputs)).unflatten(1, (self.experts, -1))
        return torch.baddbmm(self.bias, hidden.transpose(0, 1), self.weight).transpose(0, 1)

    def first_weights(self) -> Tensor:
        """Every expert's first weight matrix, ``[experts, hidden, dim]``."""
        return self.hidden.weight.unflatten(0, (self.experts, -1))


class Gates(nn.Module):
    """Softmax weights of a content group's experts (Eq. 9, 10); a lone expert has weight 1 and no parameters.

    Args:
        dim: width of the input.
        hidden: width of the hidden layer.
        experts: how many.
    """

    no_weight_decay = True

    def __init__(self, *, dim: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.logits: nn.Module | None = None
        if experts > 1:
            self.logits = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, experts))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[items, dim]`` to ``[items, experts]``, rows of sum 1."""
        if self.logits is None:
            return inputs.new_ones(inputs.shape[0], 1)
        return torch.softmax(self.logits(inputs), dim=1)
