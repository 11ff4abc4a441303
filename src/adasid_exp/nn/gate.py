"""A perceptron whose hidden units are gated by what is known of user and item (PEPNet's PPNet)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adasid_exp.nn.dropout import Dropout


class GatedMlp(nn.Module):
    """``features [rows, inputs], prior [rows, priors] -> logits [rows]`` (arXiv 2302.01115, section 3.4).

    Each hidden layer is multiplied, behind its activation, by its gate neural unit
    ``scale * sigmoid(W2 relu(W1 x + b1) + b2)`` of ``x = stop_gradient(features) + prior`` side by side; the
    output layer is not gated. ``W2`` and ``b2`` start at zero, so that with ``scale`` 2 every gate is 1 and
    the whole starts as the plain perceptron.

    Args:
        inputs, priors: widths of the two inputs.
        hidden: widths of the hidden layers.
        gate_hidden: hidden width of each gate.
        scale: upper end of a gate (gamma).
        dropout: share of hidden units left out in training.
    """

    def __init__(
        self,
        *,
        inputs: int,
        priors: int,
        hidden: Sequence[int],
        gate_hidden: int,
        scale: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.gate_hidden = gate_hidden
        self.layers = nn.ModuleList(nn.Linear(*widths) for widths in pairwise([inputs, *hidden]))
        # The first layers of all gates read the same input: one product. Its two halves are apart because no
        # gradient is wanted for the features.
        self.gates_in = nn.Linear(inputs, gate_hidden * len(hidden), bias=False)
        self.gates_prior = nn.Linear(priors, gate_hidden * len(hidden))
        self.gates_out = nn.ModuleList(_zero_linear(gate_hidden, width) for width in hidden)
        self.dropout = Dropout(chance=dropout)
        self.output = nn.Linear(hidden[-1], 1)

    def gates(self, features: Tensor, prior: Tensor) -> list[Tensor]:
        """The gate of each hidden layer, ``[rows, width]``; no gradient reaches ``features``."""
        first = F.relu(self.gates_in(features.detach()) + self.gates_prior(prior)).split(self.gate_hidden, 1)
        return [
            self.scale * torch.sigmoid(second(hidden)) for hidden, second in zip(first, self.gates_out, strict=True)
        ]

    def forward(self, features: Tensor, prior: Tensor) -> Tensor:
        """Logits of the rows."""
        hidden = features
        for layer, gate in zip(self.layers, self.gates(features, prior), strict=True):
            hidden = self.dropout(F.relu(layer(hidden)) * gate)
        return self.output(hidden).squeeze(1)


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
