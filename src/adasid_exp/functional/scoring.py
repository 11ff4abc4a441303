"""Exact scores of a whole catalogue from per-slot log-probabilities, without a ``[users, items]`` array.

An item's score is the sum over slots of the log-probability of its code. Every
function takes the log-probabilities as ``[users, slots, classes]``, where a class beyond the codes may stand
for PAD, and the catalogue as `flat_rows`. The table is turned to ``[slots * classes, users]`` so that an
item's score is the sum of ``slots`` contiguous vectors over users, 64 users at a time so that the table
stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from adasid_exp.types import PAD, TargetRank

USERS_AT_ONCE = 64
TILE = 4096
"""Items scored at once: with 64 users a tile of scores is 1 MB and stays in the cache."""

WARM_UP = 4
"""Tiles that are ranked whole, so that there is a k-th best to compare with."""

GROUP = 64
"""Items whose largest score is compared first."""


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The best items of each user, sorted by (score descending, item ascending).

    Attributes:
        items: int64 ``[users, k]``.
        scores: float32 ``[users, k]``.
    """

    items: Tensor
    scores: Tensor


@dataclass(frozen=True, kw_only=True)
class DistinctRows:
    """A code table without its repetitions, SIDs shared by several items first.

    Attributes:
        rows: distinct rows, ``[distinct, slots]``.
        sharers: items that hold each row, int64 ``[distinct]``, descending.
        of_item: which row each item holds, int64 ``[items]``.
        shared: how many rows several items hold; they come first.
    """

    rows: Tensor
    sharers: Tensor
    of_item: Tensor
    shared: int


def flat_rows(codes: Tensor, classes: int) -> Tensor:
    """Rows of the ``[slots * classes]`` table that each item adds up, int32 ``[items, slots]``.

    Args:
        codes: int64 ``[items, slots]``; PAD is the last class.
        classes: classes of a slot, PAD's included if the table has one.
    """
    slots = torch.arange(codes.shape[1], device=codes.device)
    return (torch.where(codes == PAD, classes - 1, codes) + slots * classes).int()


def distinct_rows(rows: Tensor) -> DistinctRows:
    """Each distinct row of ``[items, slots]`` once, with how many items share it."""
    distinct, of_item, sharers = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    order = torch.argsort(sharers, descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return DistinctRows(
        rows=distinct[order].contiguous(),
        sharers=sharers[order],
        of_item=place[of_item],
        shared=int((sharers > 1).sum()),
    )


def score_rows(table: Tensor, rows: Tensor, weights: Tensor | None, prior: Tensor | None) -> Tensor:
    """Sums of table rows, float32 ``[items, users]``; the order of summation is the order of the slots.

    Args:
        table: ``[slots * classes, users]``.
        rows: int32 ``[items, slots]``.
        weights: optional factor of each slot, ``[items, slots]``.
        prior: optional, added to each item's sum, ``[items]``.
    """
    sums = embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
    return sums if prior is None else sums.add_(prior[:, None])


class Scored(NamedTuple):
    """Rows with what goes into their scores; see `score_rows`."""

    rows: Tensor
    weights: Tensor | None
    prior: Tensor | None

    def take(self, chosen: slice | Tensor) -> Scored:
        """Some of the rows."""
        return Scored(*(None if part is None else part[chosen] for part in self))  # type: ignore[arg-type]

    def scores(self, table: Tensor) -> Tensor:
        """Float32 ``[items, users]``."""
        return score_rows(table, *self)


Scan = Callable[[Tensor, Scored], tuple[Tensor, Tensor]]
"""A table and the items of a tile in; scores ``[items, users]`` and each group's largest, ``[groups, users]``, out.

Items are filled up with -inf to whole groups of `GROUP`.
"""


class Found(NamedTuple):
    """Items that may be among the best: user, item and score of each."""

    user: Tensor
    item: Tensor
    score: Tensor


def scan_tile(table: Tensor, items: Scored) -> tuple[Tensor, Tensor]:
    """The plain `Scan`."""
    scores = items.scores(table)
    if len(scores) % GROUP:
        scores = pad(scores, (0, 0, 0, -len(scores) % GROUP), value=-math.inf)
    return scores, scores.unflatten(0, (-1, GROUP)).amax(1)


def exact_top_k(
    log_probs: Tensor,
    rows: Tensor,
    k: int,
    *,
    weights: Tensor | None = None,
    prior: Tensor | None = None,
    users_at_once: int = USERS_AT_ONCE,
    items_at_once: int = TILE,
    scan: Scan = scan_tile,
) -> TopK:
    """The k best items of the whole catalogue for each user; memory is O(users k) plus a few tiles.

    The first tiles are ranked whole. After that the largest score of each group of items is compared with the user's
    k-th best so far: a group that does not reach it is not looked at again.

    Args:
        log_probs: ``[users, slots, classes]``.
        rows: the catalogue, int32 ``[items, slots]`` from `flat_rows`.
        k: length of the lists; the whole catalogue if there are fewer items.
        weights: optional factor of each item's slots, ``[items, slots]``.
        prior: optional, added to each item's score, ``[items]``.
        users_at_once: users of one table.
        items_at_once: items of one tile; no result depends on either.
        scan: how a tile is scored; `scan_tile` or a compiled one.
    """
    if not len(rows):
        raise ValueError(f"a catalogue of {tuple(rows.shape)} has no item to rank")
    items, k = Scored(rows, weights, prior), min(k, len(rows))
    parts = [_user_top_k(table, items, k, items_at_once, scan) for table in _tables(log_probs, users_at_once)]
    return TopK(items=torch.cat([p.items for p in parts]), scores=torch.cat([p.scores for p in parts]))


def top_k_of_scores(scores: Tensor, k: int) -> TopK:
    """The k best columns of ``[users, items]`` scores, ties by the smaller item."""
    k = min(k, scores.shape[1])
    values, items = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if values.shape[1] > k:
        cut = (values[:, k] == values[:, k - 1]).nonzero().squeeze(1)
        values, items = values[:, :k].contiguous(), items[:, :k].contiguous()
        if len(cut):  # a tie straddles the cut, and topk takes any of the tied
            items[cut] = _ordered_keys(scores[cut]).topk(k, dim=1).indices
            values[cut] = scores[cut].gather(1, items[cut])
    return in_order(values, items)


def rank_in_scores(scores: Tensor, target: Tensor) -> TargetRank:
    """Where ``target`` ``[users]`` stands in ``[users, items]`` scores; SID figures equal the item ones."""
    own = scores.gather(1, target[:, None])
    hits = torch.empty_like(scores)  # 0/1 in floating point: exact below 2^24 items, and faster than booleans
    above = torch.gt(scores, own, out=hits).sum(1, dtype=torch.float32).long()
    tied = torch.eq(scores, own, out=hits).sum(1, dtype=torch.float32).long()
    return TargetRank(above=above, tied=tied, sid_above=above, sid_tied=tied)


def target_rank(
    log_probs: Tensor,
    distinct: DistinctRows,
    target: Tensor,
    *,
    weights: Tensor | None = None,
    prior: Tensor | None = None,
    users_at_once: int = USERS_AT_ONCE,
    items_at_once: int = TILE,
) -> TargetRank:
    """Where each user's held-out item stands, at item and at SID level, in one pass over the distinct SIDs.

    The target's own score comes from the same kernel over the same column, so it is bit-equal to the score of
    every item that shares its SID, whatever the sizes of the blocks.

    Args:
        log_probs: ``[users, slots, classes]``.
        distinct: the catalogue from `distinct_rows`.
        target: held-out items, int64 ``[users]``.
        weights: optional factor of each distinct row's slots, ``[distinct, slots]``.
        prior: optional, added to each distinct row's score, ``[distinct]``.
        users_at_once: users of one table.
        items_at_once: distinct SIDs of one block.
    """
    pairs = zip(_tables(log_probs, users_at_once), distinct.of_item[target].split(users_at_once), strict=True)
    counts = [
        _count(table, distinct, Scored(distinct.rows, weights, prior), own, items_at_once) for table, own in pairs
    ]
    above, tied, sid_above, sid_tied = torch.cat(counts, dim=1).unbind()
    return TargetRank(above=above, tied=tied, sid_above=sid_above, sid_tied=sid_tied)


def _tables(log_probs: Tensor, users_at_once: int) -> Iterator[Tensor]:
    for part in log_probs.split(users_at_once):
        yield part.flatten(1).t().contiguous()


def _user_top_k(table: Tensor, items: Scored, k: int, width: int, scan: Scan) -> TopK:
    """Top k of one table's users, tile by tile."""
    first = min(max(k, WARM_UP * width), len(items.rows))
    best = top_k_of_scores(_by_user(table, items.take(slice(first)), width), k)
    found, waiting = [], 0
    for start in range(first, len(items.rows), width):
        scores, maxima = scan(table, items.take(slice(start, start + width)))
        found.append(_above(scores, maxima, best.scores[:, -1], start))
        waiting += len(found[-1].user)
        if waiting >= best.items.numel():
            best, found, waiting = _merged(best, found), [], 0
    return _merged(best, found)


def _by_user(table: Tensor, items: Scored, width: int) -> Tensor:
    """Scores ``[users, items]``, written tile by tile."""
    room = table.new_empty(table.shape[1], len(items.rows))
    for start in range(0, len(items.rows), width):
        tile = slice(start, start + width)
        room[:, tile] = items.take(tile).scores(table).t()
    return room


def _above(scores: Tensor, maxima: Tensor, cut: Tensor, start: int) -> Found:
    """What scores more than ``cut [users]`` in a tile; of each user in the order of the items.

    An item that only equals the cut has lost to the earlier one that made it.
    """
    group, user = (maxima > cut).nonzero().unbind(1)
    near = scores.unflatten(0, (-1, GROUP))[group, :, user]
    hit, place = (near > cut[user, None]).nonzero().unbind(1)
    return Found(user[hit], start + group[hit] * GROUP + place, near[hit, place])


def _merged(best: TopK, found: list[Found]) -> TopK:
    """The best of both; what was found comes after ``best`` in the catalogue, so stable sorts settle ties."""
    if not found:
        return best
    users, k = best.items.shape
    own = torch.arange(users, device=best.items.device).repeat_interleave(k)
    all_found = [Found(own, best.items.flatten(), best.scores.flatten()), *found]
    user, item, score = (torch.cat(each) for each in zip(*all_found, strict=True))
    order = score.sort(descending=True, stable=True).indices
    order = order[user[order].sort(stable=True).indices]
    counts = torch.bincount(user, minlength=users)
    chosen = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=user.device)]
    return TopK(items=item[chosen], scores=score[chosen])


def in_order(values: Tensor, items: Tensor) -> TopK:
    items, order = items.sort(dim=1)
    values, by_score = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return TopK(items=items.gather(1, by_score), scores=values)


def _ordered_keys(scores: Tensor) -> Tensor:
    """Distinct int64 keys that order columns by (score, smaller column first)."""
    bits = (scores.float() + 0.0).view(torch.int32)  # + 0.0 makes -0.0 equal to 0.0
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    columns = torch.arange(scores.shape[1], device=scores.device)
    return (rising.long() << 32) + (0xFFFFFFFF - columns)


def _count(table: Tensor, distinct: DistinctRows, sids: Scored, own: Tensor, items_at_once: int) -> Tensor:
    """Items and SIDs above and level with each user's own row ``own``, int64 ``[4, users]``."""
    wanted = sids.take(own).scores(table).diagonal().contiguous()
    counts = torch.zeros(4, len(own), dtype=torch.int64, device=own.device)
    for start in range(0, len(distinct.rows), items_at_once):
        scores = sids.take(slice(start, start + items_at_once)).scores(table)
        more = distinct.sharers[start : min(start + items_at_once, distinct.shared)].to(scores.dtype) - 1
        sid_above, above = _weighted_count(torch.gt(scores, wanted, out=torch.empty_like(scores)), more)
        sid_tied, tied = _weighted_count(scores.eq_(wanted), more)
        counts += torch.stack([above, tied, sid_above, sid_tied]).long()
    return counts


def _weighted_count(hits: Tensor, more: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of 0/1 ``hits`` ``[rows, users]``: plain, and with ``more`` added for each of the first rows.

    Counting in float32 is exact below 2^24 items a block and several times faster than in booleans.
    """
    plain = hits.sum(0)
    return plain, plain + (hits[: len(more)] * more[:, None]).sum(0)
