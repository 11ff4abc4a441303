"""Information richness of behavior, brought to [0, 1] (ADA-SID, arXiv 2510.25622, Eq. 12 and 13)."""

from __future__ import annotations

import torch
from torch import Tensor


def rescale(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Eq. 13: ``(values - low) / (high - low)``, clamped to ``[0, 1]``.

    Where ``low == high`` no item is richer than another and all get 1.

    Args:
        values: ``[items]``.
        low, high: scalars.
    """
    span = high - low
    scaled = ((values - low) / torch.where(span > 0, span, torch.ones_like(span))).clamp(0, 1)
    return torch.where(span > 0, scaled, torch.ones_like(scaled))


def fractional_rank(values: Tensor, reference: Tensor) -> Tensor:
    """Place of values in a sorted reference, 0 for its smallest, 1 for its largest; ties share their mean.

    Values the reference lacks get the place between their neighbours. A reference of equal values gives 1.

    Args:
        values: ``[items]``.
        reference: sorted ascending, ``[reference]``, at least one value.
    """
    below = torch.searchsorted(reference, values, right=False)
    through = torch.searchsorted(reference, values, right=True)
    last = max(reference.numel() - 1, 1)
    ranks = ((below + through - 1).to(values.dtype) / (2 * last)).clamp(0, 1)
    return torch.where(reference[-1] > reference[0], ranks, torch.ones_like(ranks))


def spearman(left: Tensor, right: Tensor) -> Tensor:
    """Spearman's rank correlation with ties averaged; 0 where either side is constant.

    Args:
        left, right: ``[items]``.

    Returns:
        scalar float64.
    """
    first, second = (_centred_ranks(values.double()) for values in (left, right))
    scale = first.norm() * second.norm()
    return torch.where(scale > 0, (first @ second) / scale.clamp_min(1e-300), torch.zeros_like(scale))


def _centred_ranks(values: Tensor) -> Tensor:
    ordered = values.sort().values
    ranks = (torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)).double()
    return ranks - ranks.mean()
