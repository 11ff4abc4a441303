"""Draws from a log of interactions, and contrasts between what was drawn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adasid_exp.functional.contrastive import EPS

COLDEST = 1 / 80
"""Lowest temperature: ``exp(80)`` and ``exp(-80)`` are still float32 numbers."""


def another_of_run(place: Tensor, first: Tensor, length: Tensor, draw: Tensor) -> Tensor:
    """A uniform place other than ``place`` in its run ``first .. first + length - 1``; itself in a run of one.

    Args:
        place, first, length: int64 ``[rows]``.
        draw: uniform numbers in [0, 1), float64 ``[rows]``.

    Returns:
        int64 ``[rows]``.
    """
    steps = 1 + (draw * (length - 1)).long()
    return first + (place - first + steps) % length


def first_seen(ids: Tensor, size: int) -> Tensor:
    """Which entries of ``ids [rows]`` (``0 .. size-1``) are the first with their id, bool ``[rows]``."""
    order = torch.arange(len(ids), device=ids.device)
    first = torch.full((size,), len(ids), device=ids.device).scatter_reduce_(0, ids, order, "amin")
    return first[ids] == order


def distinct_info_nce(
    anchors: Tensor, candidates: Tensor, distinct: Tensor, *, temperature: float, first: int = 0
) -> Tensor:
    """InfoNCE of several terms at once, each over distinct candidates under cosine similarity.

    The positive of row ``i`` is candidate ``first + i``; every id counts once in the denominator, however
    often it was drawn, so that a repetition of the positive is no negative.

    Args:
        anchors: ``[terms, rows, dim]``.
        candidates: ``[terms, candidates, dim]``; more than ``rows`` where other ranks lend theirs.
        distinct: which candidates stand for their id, the first of each, bool ``[terms, candidates]``.
        temperature: divides the cosine; at least ``COLDEST``.
        first: where the rows' own candidates begin.

    Returns:
        ``[terms, rows]``.
    """
    scaled = F.normalize(anchors, dim=2, eps=EPS) / temperature
    candidates = F.normalize(candidates, dim=2, eps=EPS)
    # Exponents stay within 1 / temperature: no shift is needed, and the sum over distinct ones is a product.
    shares = (scaled @ candidates.transpose(1, 2)).exp_()
    partition = (shares @ distinct.unsqueeze(2).to(shares.dtype)).squeeze(2).log()
    return partition - torch.linalg.vecdot(scaled, candidates[:, first : first + anchors.shape[1]])
