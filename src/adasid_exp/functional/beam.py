"""Lists of SIDs that a beam search found: the place of the held-out item, the items, the distance from exact lists."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adasid_exp.functional.ragged import expanded
from adasid_exp.functional.scoring import DistinctRows, TopK
from adasid_exp.types import TargetRank


@dataclass(frozen=True, kw_only=True)
class SidBeam:
    """The SIDs found for each user, best first.

    Attributes:
        sids: rows of the distinct SIDs, int64 ``[users, beam]``, each at most once.
        scores: log-probabilities, float32 ``[users, beam]``, falling.
    """

    sids: Tensor
    scores: Tensor


def rank_in_beam(beam: SidBeam, distinct: DistinctRows, target: Tensor) -> TargetRank:
    """Where each user's held-out item stands among the items of the SIDs found.

    An item whose SID was not found has an infinite rank: the whole catalogue stands above
    it. That keeps it out of every list no longer than the beam, since each SID found has an item at least.

    Args:
        beam: SIDs found.
        distinct: the catalogue from `distinct_rows`.
        target: held-out items, int64 ``[users]``.
    """
    hit = beam.sids == distinct.of_item[target][:, None]
    own = torch.where(hit, beam.scores, torch.inf).amin(1, keepdim=True)
    items, higher, level = distinct.sharers[beam.sids], beam.scores > own, beam.scores == own
    found = hit.any(1)
    return TargetRank(
        above=torch.where(found, (items * higher).sum(1), len(distinct.of_item)),
        tied=torch.where(found, (items * level).sum(1), 1),
        sid_above=torch.where(found, higher.sum(1), len(distinct.rows)),
        sid_tied=torch.where(found, level.sum(1), 1),
    )


def items_in_beam(beam: SidBeam, distinct: DistinctRows, k: int) -> TopK:
    """The k best items of the SIDs found, sorted by (score descending, item ascending).

    Args:
        beam: SIDs found; each user's must have ``k`` items or be all there are.
        distinct: the catalogue from `distinct_rows`.
        k: length of the lists; the whole catalogue if there are fewer items.
    """
    k = min(k, len(distinct.of_item))
    by_sid = distinct.of_item.argsort(stable=True)
    start = distinct.sharers.cumsum(0) - distinct.sharers
    many = distinct.sharers[beam.sids]
    owner, place = expanded(many.flatten())
    items = by_sid[start[beam.sids.flatten()[owner]] + place]
    scores = beam.scores.flatten()[owner]
    order = items.argsort()
    order = order[scores[order].argsort(descending=True, stable=True)]
    order = order[(owner // beam.sids.shape[1])[order].argsort(stable=True)]  # by user, score, item
    first = order[_first(many.sum(1), k)].view(len(many), k)
    return TopK(items=items[first], scores=scores[first])


def overlap_at(found: Tensor, exact: Tensor, cutoffs: Tensor) -> Tensor:
    """Share of the exact list's first N entries that are among the first N found, float64 ``[users, cutoffs]``.

    Args:
        found: entries without repetition, best first, int64 ``[users, length]``.
        exact: what should stand there, int64 ``[users, length]``.
        cutoffs: list lengths N, int64 ``[cutoffs]``; a longer one means the whole lists.
    """
    same = exact[:, :, None] == found[:, None, :]
    place = same.int().argmax(2)
    ends = cutoffs.clamp(max=exact.shape[1])
    listed = torch.arange(exact.shape[1], device=exact.device)[:, None] < ends
    both = same.any(2)[:, :, None] & listed & (place[:, :, None] < ends)
    return both.sum(1).double() / ends


def _first(many: Tensor, k: int) -> Tensor:
    """Places of the first k entries of each list in a flat array, ``[lists * k]``."""
    start = many.cumsum(0) - many
    return (start[:, None] + torch.arange(k, device=many.device)).flatten()
