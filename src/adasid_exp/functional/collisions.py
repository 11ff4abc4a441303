"""What to do about items that share a SID: nothing, number them, or move them to other SIDs.

``codes`` are int64 ``[items, slots]``, or integers of fewer bits where a catalogue is large; ``PAD`` marks a slot that
an item does not use, is part of its SID and is never changed. A `Distances` tells the squared distance of what each
slot of an item quantizes to each of its codewords, up to a constant per item and slot: ``[rows]`` item indices in,
``[rows, slots, size]`` out. Items that share no SID keep theirs under every policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adasid_exp.functional.codebook import KEY_LIMIT, sid_groups
from adasid_exp.types import PAD, SidTable, UserError

Distances = Callable[[Tensor], Tensor]

DEDUP = "dedup"
"""What the slot of a dedup token speaks of."""

LARGEST_SLOT = 2**15
"""Codes of a slot are stored in 16 bits."""

ROWS = 4096
"""Items whose distances are held at once."""

APPEND_CANDIDATES = 256
"""As `NearestFree` is shipped."""

TIE = 1e-6
"""Tells equal shares of a transport plan apart; far below any difference that matters (shares are logarithms)."""

LC_REC_RANGE = 2.0
"""LC-Rec brings distances to [-1, 1] before it divides them by epsilon."""


@dataclass(frozen=True, kw_only=True)
class Leave:
    """Items keep the SIDs they share."""

    def __call__(self, sids: SidTable, distances: Distances) -> SidTable:
        """The SIDs as they are."""
        return sids

    def append(self, published: Tensor, sids: SidTable, distances: Distances) -> SidTable:
        """The SIDs as they are."""
        return sids


@dataclass(frozen=True, kw_only=True)
class DedupToken:
    """A last slot that numbers the items of a SID (TIGER, arXiv 2305.05065, section 3.1).

    Attributes:
        bound: items that may share a SID; None takes as many as there are.
    """

    bound: int | None

    def __call__(self, sids: SidTable, distances: Distances) -> SidTable:
        """The SIDs, one slot longer.

        Raises:
            UserError: more items than ``bound`` share a SID.
        """
        number = place_in_group(sids.codes)
        largest, limit = int(number.max()) + 1, min(self.bound or LARGEST_SLOT, LARGEST_SLOT)
        if largest > limit:
            raise UserError(
                f"collisions.bound: {largest} items share a SID, {limit} may; raise the bound or use larger codebooks"
            )
        return self._numbered(sids, number, self.bound or largest)

    def append(self, published: Tensor, sids: SidTable, distances: Distances) -> SidTable:
        """New SIDs, numbered on behind those of ``published [items, slots + 1]``.

        Raises:
            UserError: more items share a SID than the published last slot has codes.
        """
        before = published[:, :-1].to(sids.codes.dtype)
        number = place_in_group(torch.cat([before, sids.codes]))[len(before) :]
        return self._numbered(sids, number, self.bound or LARGEST_SLOT)

    def _numbered(self, sids: SidTable, number: Tensor, size: int) -> SidTable:
        return replace(
            sids,
            codes=torch.cat([sids.codes, number[:, None].to(sids.codes.dtype)], dim=1),
            weights=torch.cat([sids.weights, torch.ones_like(sids.weights[:, :1])], dim=1),
            sizes=(*sids.sizes, size),
            modalities=(*sids.modalities, DEDUP),
        )


@dataclass(frozen=True, kw_only=True)
class Sinkhorn:
    """Another code in the last used slot, by a balanced transport plan (LC-Rec, arXiv 2311.09049, section 3.1).

    Attributes:
        epsilon: entropic regularization, of distances brought to a range of 2.
        iterations: of the balancing.
        rounds: how often it is repeated on what still collides.
    """

    epsilon: float
    iterations: int
    rounds: int

    def __call__(self, sids: SidTable, distances: Distances) -> SidTable:
        """The SIDs with other codes in last slots."""
        codes = by_transport(
            sids.codes, sids.sizes, distances, epsilon=self.epsilon, iterations=self.iterations, rounds=self.rounds
        )
        return replace(sids, codes=codes)

    def append(self, published: Tensor, sids: SidTable, distances: Distances) -> SidTable:
        """Colliding new SIDs moved to the nearest free ones: a balanced plan would move published items as well."""
        return NearestFree(candidates=APPEND_CANDIDATES).append(published, sids, distances)


@dataclass(frozen=True, kw_only=True)
class NearestFree:
    """The cheapest free SID that differs in one slot: of residual SIDs the last used, else any used.

    Attributes:
        candidates: free SIDs that an item weighs in one pass.
    """

    candidates: int

    def __call__(self, sids: SidTable, distances: Distances) -> SidTable:
        """The SIDs with one slot of some items changed."""
        free = to_nearest_free(sids.codes, sids.sizes, distances, ordered=sids.ordered, candidates=self.candidates)
        return replace(sids, codes=free)

    def append(self, published: Tensor, sids: SidTable, distances: Distances) -> SidTable:
        """Colliding new SIDs moved to free ones; ``published [items, slots]`` stay where they are."""
        both, fixed = torch.cat([published.to(sids.codes.dtype), sids.codes]), len(published)
        free = to_nearest_free(
            both,
            sids.sizes,
            lambda rows: distances(rows - fixed),
            ordered=sids.ordered,
            candidates=self.candidates,
            fixed=fixed,
        )
        return replace(sids, codes=free[fixed:])


def colliding(codes: Tensor) -> Tensor:
    """Whether each item shares its SID, bool ``[items]``."""
    groups = sid_groups(codes)
    return torch.bincount(groups)[groups] > 1


def place_in_group(codes: Tensor) -> Tensor:
    """How many items before each one hold its SID, int64 ``[items]``."""
    return _place(sid_groups(codes))


def last_used_slot(codes: Tensor) -> Tensor:
    """The last slot that is not PAD, int64 ``[items]``; -1 for an item that uses none."""
    slots = torch.arange(codes.shape[1], device=codes.device)
    return torch.where(codes != PAD, slots, -1).amax(dim=1)


def to_nearest_free(
    codes: Tensor,
    sizes: Sequence[int],
    distances: Distances,
    *,
    ordered: bool,
    candidates: int,
    fixed: int = 0,
) -> Tensor:
    """Moves colliding items to free SIDs, the cheapest move of all first; one item of each SID stays.

    The cost of a move is the growth in squared distance. The item that stays is the one whose move would cost most,
    of equals the first in the catalogue. The result is that of a greedy choice over all moves, as long as no item
    needs more than ``candidates`` alternatives; what is left then is weighed anew. The first ``fixed`` items never
    move, and where one of them holds a SID none of the others stays.

    Returns:
        int64 ``[items, slots]``; items that find no free SID keep theirs.
    """
    codes = codes.clone()
    parts = key_parts(sizes).to(codes.device)
    while True:
        movers = colliding(codes)[fixed:].nonzero().squeeze(1) + fixed
        if not movers.numel():
            return codes
        groups = sid_groups(codes[movers])
        keys = keys_of(codes, parts)
        settled = _contains(keys[:fixed].unique(), keys[movers])
        held = keys.unique()
        moves = [
            cheapest_moves(
                codes[rows].long(), distances(rows), sizes, parts, held, ordered=ordered, candidates=candidates
            )
            for rows in movers.split(ROWS)
        ]
        cost, target, where = (torch.cat(each) for each in zip(*moves, strict=True))
        # An item of infinite cost stands for the fixed holder of a SID: it stays, so that all others must move.
        stays = cost[settled].fill_(math.inf)
        choice = cheapest_first(
            torch.cat([cost, stays]), torch.cat([target, target[settled]]), torch.cat([groups, groups[settled]])
        )[: len(movers)]
        moved = (choice >= 0).nonzero().squeeze(1)
        if not moved.numel():
            return codes
        chosen = where[moved, choice[moved]]
        codes[movers[moved], chosen.div(max(sizes), rounding_mode="floor")] = (chosen % max(sizes)).to(codes.dtype)


def key_parts(sizes: Sequence[int]) -> Tensor:
    """One number per slot and code (PAD first), int64 ``[slots, max(sizes) + 1]``; a SID's key is their sum.

    Keys of distinct SIDs differ where all SIDs can be numbered in 62 bits; else they are random, and a free SID
    passes for a taken one once in 2^62 looks, never the reverse.
    """
    widths = [size + 1 for size in sizes]
    if math.prod(widths) < KEY_LIMIT:
        strides = torch.tensor([math.prod(widths[:slot]) for slot in range(len(sizes))])
        return strides[:, None] * torch.arange(max(widths))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-KEY_LIMIT, KEY_LIMIT, (len(sizes), max(widths)), generator=generator)


def keys_of(codes: Tensor, parts: Tensor) -> Tensor:
    """Keys of SIDs, int64 ``[items]``."""
    keys = parts.new_zeros(len(codes))
    for part, column in zip(parts, codes.T, strict=True):  # nothing of the size of ``codes`` in 64 bits
        keys += part[column.long() - PAD]
    return keys


def cheapest_moves(
    own: Tensor,
    distance: Tensor,
    sizes: Sequence[int],
    parts: Tensor,
    held: Tensor,
    *,
    ordered: bool,
    candidates: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The cheapest free SIDs that differ in one slot from the SIDs ``own [rows, slots]``.

    Args:
        own: SIDs of some items.
        distance: of these items, ``[rows, slots, size]``.
        sizes: codebook size of each slot.
        parts: see `key_parts`.
        held: keys of all SIDs that are not free, ascending.
        ordered: only the last used slot may change.
        candidates: how many to return at most.

    Returns:
        cost, ascending, infinite behind the last, float32 ``[rows, candidates]``; key of the SID; and
        ``slot * max(sizes) + code``, all of one shape.
    """
    width, slots = max(sizes), torch.arange(len(sizes), device=own.device)
    legal = torch.arange(width, device=own.device) < torch.tensor(sizes, device=own.device)[:, None]
    movable = slots == last_used_slot(own)[:, None] if ordered else own != PAD
    change = parts[:, 1:] - parts[slots, own - PAD][..., None]
    keys = keys_of(own, parts)[:, None, None] + change
    away = _excess(distance[..., :width], own)
    away = away.masked_fill(~(movable[..., None] & legal) | _contains(held, keys), math.inf).flatten(1)
    cost, where = away.sort(dim=1, stable=True)
    where = where[:, :candidates]
    return cost[:, :candidates], keys.flatten(1).gather(1, where), where


def cheapest_first(cost: Tensor, target: Tensor, groups: Tensor) -> Tensor:
    """Which move each item makes when the cheapest of all moves is made first, int64 ``[items]``; -1: it stays.

    Each target is taken once and of each group one item stays. Found by deferred acceptance: items propose their
    cheapest move, targets keep the cheapest proposal, the others go on to their next. Costs being common to both
    sides, that settles where the greedy choice does, in rounds over all items at once.

    Args:
        cost: of the moves of each item, ascending, infinite where there is none, ``[items, moves]``.
        target: int64 ``[items, moves]``.
        groups: int64 ``[items]``.
    """
    items, moves = cost.shape
    at = torch.zeros(items, dtype=torch.long, device=cost.device)
    while True:
        now = at.clamp(max=moves - 1)[:, None]
        price = cost.gather(1, now).squeeze(1).masked_fill(at >= moves, math.inf)
        rank = _ranks(price)
        proposes = (rank < _largest(rank, groups)[groups]) & price.isfinite()
        asked = target.gather(1, now).squeeze(1)[proposes].unique(return_inverse=True)[1]
        refused = proposes.clone()
        refused[proposes] = rank[proposes] > -_largest(-rank[proposes], asked)[asked]
        if not bool(refused.any()):
            return torch.where(proposes, at, -1)
        at[refused] += 1


def by_transport(
    codes: Tensor, sizes: Sequence[int], distances: Distances, *, epsilon: float, iterations: int, rounds: int
) -> Tensor:
    """Parts colliding items by a transport plan over the codes of their last used slot.

    The colliding items of one prefix share a plan over the codes that no other item holds. Each code belongs to the
    item with the largest share of it, and each item takes the nearest code of its own. (LC-Rec takes the code with
    the largest share instead, which among the codes that are an item's alone has no regard to distance, leaves
    items with equal vectors together, and runs into the SIDs of others.)

    Returns:
        int64 ``[items, slots]``, of all rounds the state in which the fewest items collide.
    """
    best, least = codes, int(colliding(codes).sum())
    current = codes
    for _ in range(rounds):
        if not least:
            break
        changed = _transported(current, sizes, distances, epsilon=epsilon, iterations=iterations)
        if torch.equal(changed, current):
            break
        current, left = changed, int(colliding(changed).sum())
        if left < least:
            best, least = current, left
    return best


def transport_plan(cost: Tensor, groups: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Logarithm of each group's Sinkhorn plan: every item and every open code has the same mass in it.

    Args:
        cost: float64 ``[items, codes]``, infinite where a code is closed.
        groups: int64 ``[items]``; each is a problem of its own.

    Returns:
        float64 ``[items, codes]``, -inf where closed; over a code the shares of a group's items add up to one.
    """
    plan = -cost / epsilon
    for _ in range(iterations):
        plan = plan - _finite(plan.logsumexp(dim=1, keepdim=True))
        plan = plan - _finite(_group_logsumexp(plan, groups))[groups]
    return plan


def _transported(
    codes: Tensor, sizes: Sequence[int], distances: Distances, *, epsilon: float, iterations: int
) -> Tensor:
    """One round of `by_transport`."""
    shared, width = colliding(codes), max(sizes)
    rows = shared.nonzero().squeeze(1)
    rows = rows[last_used_slot(codes[rows]) >= 0]
    if not rows.numel():
        return codes
    own = codes[rows].long()
    slot = last_used_slot(own)
    groups = sid_groups(own.scatter(1, slot[:, None], width))  # a code that no slot has: the place is open
    parts = zip(rows.split(ROWS), slot.split(ROWS), strict=True)
    away = torch.cat([distances(part)[torch.arange(len(part)), last, :width] for part, last in parts])
    closed = _held_by_others(own, slot, codes[~shared], key_parts(sizes).to(codes.device))
    closed |= torch.arange(width, device=codes.device) >= torch.tensor(sizes, device=codes.device)[slot, None]
    cost = _unit_range(away.double().masked_fill(closed, math.inf), groups)
    chosen = _nearest_of_own(cost, groups, epsilon=epsilon, iterations=iterations)
    changed, found = codes.clone(), chosen >= 0
    changed[rows[found], slot[found]] = chosen[found].to(codes.dtype)
    return changed


def _held_by_others(own: Tensor, slot: Tensor, others: Tensor, parts: Tensor) -> Tensor:
    """Which codes in ``slot [rows]`` would turn the SIDs ``own`` into one of ``others``, bool ``[rows, codes]``."""
    code = own.gather(1, slot[:, None]).squeeze(1)
    change = parts[slot, 1:] - parts[slot, code - PAD][:, None]
    return _contains(keys_of(others, parts).unique(), keys_of(own, parts)[:, None] + change)


def _nearest_of_own(cost: Tensor, groups: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """The nearest of the codes that are each item's own by the plan, int64 ``[items]``; -1 where none is."""
    plan = transport_plan(cost, groups, epsilon=epsilon, iterations=iterations)
    # Items with equal vectors have equal shares: they take turns down their common list of nearest codes.
    turn = cost.argsort(dim=1, stable=True).argsort(dim=1) % torch.bincount(groups)[groups][:, None]
    plan = plan + TIE * (turn == _place(groups)[:, None])
    own = (plan == _largest(plan, groups)[groups]) & plan.isfinite()
    nearest = cost.masked_fill(~own, math.inf).min(dim=1)
    return torch.where(nearest.values.isfinite(), nearest.indices, -1)


def _unit_range(cost: Tensor, groups: Tensor) -> Tensor:
    """Distances from each row's nearest open code, each group's largest one brought to `LC_REC_RANGE`."""
    lowest = cost.amin(dim=1, keepdim=True)
    away = cost - _finite(lowest)
    spread = _largest(away.masked_fill(away.isinf(), 0.0).amax(dim=1), groups)[groups]
    return away * (LC_REC_RANGE / torch.where(spread > 0, spread, 1.0))[:, None]


def _excess(distance: Tensor, own: Tensor) -> Tensor:
    """How much farther each codeword is than the item's own, ``[rows, slots, size]``; the own one infinitely."""
    at = own.clamp(min=0)[..., None]
    return (distance - distance.gather(2, at)).scatter(2, at, math.inf)


def _place(groups: Tensor) -> Tensor:
    """How many items before each one are of its group, int64 ``[items]``."""
    order = groups.argsort(stable=True)
    counts = torch.bincount(groups)
    start = counts.cumsum(0) - counts
    place = torch.empty_like(groups)
    place[order] = torch.arange(len(groups), device=groups.device) - start[groups[order]]
    return place


def _ranks(price: Tensor) -> Tensor:
    """Place of each item when sorted by price, of equals the last first, int64 ``[items]``."""
    order = price.flip(0).argsort(stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device)
    return ranks.flip(0)


def _largest(values: Tensor, groups: Tensor) -> Tensor:
    """Largest value of each group: ``[items, ...]`` and ``[items]`` to ``[groups, ...]``."""
    count = int(groups.max()) + 1 if groups.numel() else 0
    index = groups.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    out = values.new_zeros(count, *values.shape[1:])
    return out.scatter_reduce(0, index, values, "amax", include_self=False)


def _group_logsumexp(values: Tensor, groups: Tensor) -> Tensor:
    """Logarithm of the sum of exponentials within each group, ``[groups, codes]``."""
    peak = _finite(_largest(values, groups))
    return torch.zeros_like(peak).index_add_(0, groups, (values - peak[groups]).exp()).log() + peak


def _finite(values: Tensor) -> Tensor:
    """0 in place of what is infinite: a row or column that is closed altogether stays so."""
    return torch.where(values.isfinite(), values, 0.0)


def _contains(ordered: Tensor, values: Tensor) -> Tensor:
    """Whether each value is among ``ordered``, which ascends."""
    if not ordered.numel():
        return torch.zeros_like(values, dtype=torch.bool)
    return ordered[torch.searchsorted(ordered, values).clamp(max=len(ordered) - 1)] == values
