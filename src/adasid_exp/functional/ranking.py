"""Recall and NDCG of one held-out item, from the place it takes among the whole catalogue.

An item that shares its score with others has no single rank: it takes each rank of the tied block equally
often. Both metrics are therefore expectations over a random order of the block (never an order by item id,
which leaks).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RankingSums:
    """Sums over users, float64 ``[cutoffs]``; additive over batches and processes."""

    recall: Tensor
    ndcg: Tensor


def expected_recall(above: Tensor, tied: Tensor, cutoffs: Tensor) -> Tensor:
    """Chance that the held-out item stands within each cutoff, float64 ``[users, cutoffs]``.

    Args:
        above: items that score strictly higher, int64 ``[users]``.
        tied: items with the target's score, itself included (at least 1), int64 ``[users]``.
        cutoffs: list lengths, int64 ``[cutoffs]``.
    """
    within = (cutoffs - above[:, None]).clamp(min=0)
    return torch.minimum(within, tied[:, None]).double() / tied[:, None]


def expected_ndcg(above: Tensor, tied: Tensor, cutoffs: Tensor) -> Tensor:
    """Mean of ``1 / log2(1 + rank)`` over the tied block, cut at each cutoff, float64 ``[users,
    cutoffs]``."""
    prefix = discount_prefix(cutoffs)
    first = torch.minimum(above[:, None], cutoffs)
    last = torch.minimum((above + tied)[:, None], cutoffs)
    return (prefix[last] - prefix[first]) / tied[:, None]


def discount_prefix(cutoffs: Tensor) -> Tensor:
    """Sums of the first n NDCG discounts, float64 ``[longest + 1]``: entry n is the gain of ranks 1 to n."""
    ranks = torch.arange(1, max(cutoffs.tolist()) + 1, dtype=torch.float64, device=cutoffs.device)
    return torch.nn.functional.pad((1.0 / torch.log2(1.0 + ranks)).cumsum(0), (1, 0))


def ranking_sums(above: Tensor, tied: Tensor, cutoffs: Tensor) -> RankingSums:
    """Sums of both metrics over users, by a histogram of ranks where nothing ties.

    A user without ties needs one increment of a histogram, however many the cutoffs; the rest take the
    expectation. Shapes as in `expected_recall`.
    """
    longest = max(cutoffs.tolist())
    alone = tied == 1
    histogram = torch.bincount(above[alone].clamp(max=longest), minlength=longest + 1)[:longest].double()
    discounts = discount_prefix(cutoffs).diff()
    recall = histogram.cumsum(0)[cutoffs - 1]
    ndcg = (histogram * discounts).cumsum(0)[cutoffs - 1]
    shared = ~alone
    recall = recall + expected_recall(above[shared], tied[shared], cutoffs).sum(0)
    ndcg = ndcg + expected_ndcg(above[shared], tied[shared], cutoffs).sum(0)
    return RankingSums(recall=recall, ndcg=ndcg)
