"""The multi-layer perceptron that encoders and decoders are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


class MLP(nn.Sequential):
    """Linear layers with ReLU between them, none behind the last: ``[..., widths[0]] -> [..., widths[-1]]``.

    Raises:
        ValueError: for fewer than two widths.
    """

    def __init__(self, *, widths: Sequence[int]) -> None:
        if len(widths) < 2:
            raise ValueError(f"an MLP needs an input and an output width, got {list(widths)}")
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])
