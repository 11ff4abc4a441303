"""Negatives drawn by an inverse-CDF table, never from a row's own items, and without rejection."""

from __future__ import annotations

import torch
from torch import Tensor

_MASS = 1 << 48
"""Total of the integer masses: shares are exact to 2^-48, and a float64 draw reaches every unit."""


def inverse_cdf(weights: Tensor) -> Tensor:
    """Ends of the items' intervals on a line of integer masses, int64 ``[items]``.

    Args:
        weights: how often each item is to be drawn, relative to the others, ``[items]``.

    Raises:
        ValueError: a weight is negative or not finite, or all are zero.
    """
    total = weights.double().sum()
    if not bool(torch.isfinite(total)) or bool((weights < 0).any()) or total <= 0:
        raise ValueError(f"weights must be finite, not negative and not all zero: {tuple(weights.shape)}")
    return (weights.double() / total * _MASS).round().long().cumsum(0)


def draw_excluding(ends: Tensor, own: Tensor, valid: Tensor, draws: Tensor) -> Tensor:
    """Items drawn in proportion to their mass among all but the row's own, int64 ``[rows, draws]``.

    The row's own intervals are cut out of the line and the draw falls on what is left, so that no draw is
    repeated and none can hit them: integer arithmetic, exact. A row that owns all the mass gets item 0.

    Args:
        ends: from `inverse_cdf`, int64 ``[items]``.
        own: items never to be drawn for a row, int64 ``[rows, own]``.
        valid: which entries of ``own`` count, bool ``[rows, own]``.
        draws: uniform numbers in [0, 1), float64 ``[rows, draws]``.
    """
    items = torch.where(valid, own, len(ends)).sort(dim=1).values
    repeated = torch.nn.functional.pad(items[:, 1:] == items[:, :-1], (1, 0))
    edges = torch.cat([ends.new_zeros(1), ends, ends[-1:]])
    starts = edges[items + repeated]  # a repeated item begins where it ends: nothing is left to cut
    masses = edges[items + 1] - starts
    cut = torch.nn.functional.pad(masses.cumsum(1), (1, 0))  # mass removed before each own item, and in all
    left = ends[-1] - cut[:, -1:]
    places = (draws * left).long().minimum(left - 1)
    passed = torch.searchsorted(starts - cut[:, :-1], places, right=True)
    return torch.searchsorted(ends, places + cut.gather(1, passed), right=True).clamp(max=len(ends) - 1)
