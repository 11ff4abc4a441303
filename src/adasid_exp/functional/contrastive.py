"""InfoNCE over the items of a batch (ADA-SID, arXiv 2510.25622, Eq. 15 and 16)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-8


def info_nce(anchor: Tensor, candidates: Tensor, *, temperature: float, first: int = 0) -> Tensor:
    """Loss of every anchor against all candidates under cosine similarity.

    The positive of row ``i`` is candidate ``first + i``; every other candidate is a negative, so the items
    of a batch must be distinct.

    Args:
        anchor: ``[items, dim]``.
        candidates: ``[candidates, dim]``; more than ``items`` where other ranks lend their rows as negatives.
        temperature: divides the cosine; positive.
        first: where the rows of ``anchor`` begin among the candidates.

    Returns:
        ``[items]``; 0 where an anchor has no negative.
    """
    return log_partition(similarities(anchor, candidates, temperature), first, dim=1)


def symmetric_info_nce(left: Tensor, right: Tensor, *, temperature: float) -> Tensor:
    """Both directions of :func:`info_nce` between two views of the same items, from one similarity matrix.

    Args:
        left, right: ``[items, dim]``.
        temperature: divides the cosine; positive.

    Returns:
        ``[items]``, the sum of the two directions (Eq. 15).
    """
    logits = similarities(left, right, temperature)
    return log_partition(logits, 0, dim=1) + log_partition(logits, 0, dim=0)


def similarities(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Cosines over temperature, ``[items, candidates]``."""
    scaled = F.normalize(left, dim=1, eps=EPS) / temperature
    return scaled @ F.normalize(right, dim=1, eps=EPS).T


def log_partition(logits: Tensor, first: int, *, dim: int) -> Tensor:
    """``logsumexp(logits, dim)`` minus the logit of the positive, ``[items]``."""
    return logits.logsumexp(dim) - torch.diagonal(logits, first)
