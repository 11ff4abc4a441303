"""`scoring.exact_top_k` by sums of bytes that exclude most items and exact scores of the rest; the same result.

What an item lacks of the best score there could be is the sum of what each of its codes lacks of its slot's best. Each
is rounded down to whole steps and stays at 255, so that the sum of the bytes never exceeds what the item lacks: one
that is out of reach of a user's k-th best score so far cannot be on the list. 254 steps reach from the best score
there could be to a score that k items are known, or all but certain, to have. It is taken from every 16th item; for the
few users for whom it was too high, and for those whose scores the bytes cannot tell apart, the plain compiled scan does
the work again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adasid_exp.functional import scoring_numba
from adasid_exp.functional.scoring import Scored, TopK, in_order
from adasid_exp.types import UserError

STRIDE = 16
"""Of so many items one is in the sample."""

LOOK = 256
"""Items that are scored for every user, to begin with."""

PRIOR_LEVELS = 256
"""Items whose priors fall into the same of so many bands count as having the greatest of it."""

WEIGHT_LEVELS = 16
"""The same for the weights of a slot: the least and the greatest of a band count, whichever gives more."""

MEAN_RUN = 32
"""Items that must share their first columns on average for these to be summed once."""

MOST_TRIED = 256
"""One item of so many is scored exactly for a user before the plain scan takes over."""


@dataclass(frozen=True, kw_only=True)
class FilteredCatalogue:
    """A catalogue made ready, once, for `filtered_top_k`: 2 bytes a slot and 12 an item beside the table of codes.

    Attributes:
        plain: the catalogue as it was given.
        rows: what the rows of the byte table stand for, `integer_filter_kernels.Rows`.
        items: in the order they are visited in, `integer_filter_kernels.Items`.
        sample: every 16th of them; None for a small catalogue.
    """

    plain: Scored
    rows: Any
    items: Any
    sample: Any


@dataclass(frozen=True, kw_only=True)
class _Column:
    """One addend of the items' scores: which row of the byte table each item has, and what the rows stand for."""

    of_item: Tensor
    source: Tensor
    low: Tensor
    high: Tensor
    offset: Tensor


def exact_top_k(
    log_probs: Tensor, rows: Tensor, k: int, *, weights: Tensor | None = None, prior: Tensor | None = None
) -> TopK:
    """The k best items of the whole catalogue for each user, as `scoring_numba.exact_top_k` has them, bit for bit.

    Making the catalogue ready takes as long as the lists of two thousand users: `filtered` does it once for many calls.

    Raises:
        UserError: numba is not installed.
    """
    return filtered_top_k(log_probs, filtered(rows, weights=weights, prior=prior), k)


def filtered(rows: Tensor, *, weights: Tensor | None = None, prior: Tensor | None = None) -> FilteredCatalogue:
    """The catalogue made ready; arguments as in `scoring.exact_top_k`.

    Raises:
        UserError: numba is not installed.
    """
    if not len(rows):
        raise ValueError(f"a catalogue of {tuple(rows.shape)} has no item to rank")
    kernels, slots = _kernels(), rows.shape[1]
    columns = [_slot_column(rows[:, slot], None if weights is None else weights[:, slot]) for slot in range(slots)]
    if prior is not None:
        columns.insert(0, _prior_column(prior))
    depth = _depth(columns, len(rows))
    order, begins = _runs(columns[:depth], len(rows), kernels.RUN)
    starts = np.cumsum([0, *(len(column.source) for column in columns)])
    places = np.empty((len(rows), len(columns)), np.uint16 if starts[-1] <= 2**16 else np.uint32)
    for number, column in enumerate(columns):
        places[:, number] = (column.of_item[order] + int(starts[number])).numpy()
    facts = [torch.cat([getattr(c, name) for c in columns]) for name in ("source", "low", "high", "offset")]
    items = kernels.Items(
        places=places,
        runs=begins.numpy(),
        depth=depth,
        order=order.numpy(),
        weights=rows.new_empty(0, slots).float().numpy() if weights is None else weights.float()[order].numpy(),
        prior=np.zeros(len(rows), np.float32) if prior is None else prior.float()[order].numpy(),
    )
    return FilteredCatalogue(
        plain=Scored(rows, weights, prior),
        rows=kernels.Rows(starts, facts[0].numpy(), *(fact.double().numpy() for fact in facts[1:])),
        items=items,
        sample=_every(items, kernels) if len(rows) >= STRIDE * STRIDE * LOOK else None,
    )


def filtered_top_k(log_probs: Tensor, catalogue: FilteredCatalogue, k: int) -> TopK:
    """The k best items of a catalogue made ready for each user; memory is O(users k), on the CPU.

    Args:
        log_probs: ``[users, slots, classes]``, finite or -inf.
        catalogue: from `filtered`.
        k: length of the lists; the whole catalogue if there are fewer items.
    """
    kernels = _kernels()
    k = min(k, len(catalogue.items.order))
    users = log_probs.detach().float().flatten(1).contiguous()
    lists = _lists(kernels, len(users), k)
    if 8 * k < len(catalogue.items.order):
        table = torch.empty(len(catalogue.rows.source), kernels.LANES, dtype=torch.uint8).numpy()
        for start in range(0, len(users), kernels.LANES):
            part = slice(start, start + kernels.LANES)
            _scan(kernels, catalogue, users[part].numpy(), kernels.Lists(*(each[part] for each in lists)), table)
    again = torch.from_numpy(lists.held < k).nonzero().squeeze(1)
    top = in_order(torch.from_numpy(lists.scores), torch.from_numpy(lists.items))
    if len(again):
        rows, weights, prior = catalogue.plain
        plain = scoring_numba.exact_top_k(users[again], rows, k, weights=weights, prior=prior)
        top.items[again], top.scores[again] = plain.items, plain.scores
    return top


def _lists(kernels: ModuleType, users: int, k: int) -> Any:
    return kernels.Lists(
        scores=np.zeros((users, k), np.float32),
        items=np.zeros((users, k), np.int64),
        held=np.zeros(users, np.int64),
        tried=np.zeros(users, np.int64),
    )


def _scan(
    kernels: ModuleType, catalogue: FilteredCatalogue, log_probs: np.ndarray, lists: Any, table: np.ndarray
) -> None:
    """Fills the lists of one table's users; those that come out shorter than k are not done."""
    many, k = lists.scores.shape
    width = len(catalogue.rows.columns) - 1
    users = kernels.Users(log_probs, np.empty((many, width)), *(np.empty(many, kind) for kind in ("f8", "f4", "f8")))
    kernels.find_tops(catalogue.rows, users)
    table[:, many:] = kernels.ALL
    few = k if catalogue.sample is None else _rank(k)
    first = catalogue.items if catalogue.sample is None else catalogue.sample
    users.cut[:] = _look(kernels, catalogue.rows, first, users, few)
    budget = _budget(k, len(catalogue.items.order))
    if catalogue.sample is not None:
        found, least = _lists(kernels, many, few), _budget(few, len(first.order))
        kernels.fill(catalogue.rows, users, table)
        kernels.scan(catalogue.rows, first, users, found, table, least)
        lists.tried[found.tried > least] = budget + 1
    kernels.fill(catalogue.rows, users, table)
    kernels.scan(catalogue.rows, catalogue.items, users, lists, table, budget)
    lists.held[lists.tried > budget] = 0


def _look(kernels: ModuleType, rows: Any, items: Any, users: Any, k: int) -> np.ndarray:
    """The k-th best score of a few items, float32 ``[users]``."""
    chosen = np.linspace(0, len(items.order) - 1, min(len(items.order), max(LOOK, 8 * k))).astype(np.int64)
    scores = np.empty((len(users.best), len(chosen)), np.float32)
    kernels.score_some(rows, items, users, chosen, scores)
    return np.partition(scores, len(chosen) - k, axis=1)[:, len(chosen) - k]


def _rank(k: int) -> int:
    """A place in the sample, all but certainly after the k-th best of all: by four deviations of a Poisson count."""
    return min(k, math.ceil(k / STRIDE + 4 * math.sqrt(k / STRIDE) + 2))


def _budget(k: int, items: int) -> int:
    return max(16 * k, items // MOST_TRIED)


def _slot_column(rows: Tensor, weights: Tensor | None) -> _Column:
    if weights is None:
        source, of_item = _numbered(rows.long())
        ones = torch.ones(len(source))
        return _Column(of_item=of_item, source=source, low=ones, high=ones, offset=torch.zeros(len(source)))
    level, low, high = _levels(weights, WEIGHT_LEVELS)
    keys, of_item = _numbered(rows.long() * WEIGHT_LEVELS + level)
    level = keys % WEIGHT_LEVELS
    return _Column(
        of_item=of_item,
        source=keys // WEIGHT_LEVELS,
        low=low[level],
        high=high[level],
        offset=torch.zeros(len(keys)),
    )


def _prior_column(prior: Tensor) -> _Column:
    level, _, high = _levels(prior, PRIOR_LEVELS)
    keys, of_item = _numbered(level)
    nothing = torch.zeros(len(keys))
    return _Column(of_item=of_item, source=torch.full_like(keys, -1), low=nothing, high=nothing, offset=high[keys])


def _levels(values: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Level of each value, from the greatest down, and the least and greatest value of each level."""
    values = values.float()
    spread = values.max().double() - values.min().double()
    share = (values.max().double() - values.double()) / spread if spread > 0 else torch.zeros_like(values).double()
    level = (share.nan_to_num() * most).long().clamp_(0, most - 1)  # infinite spread: all in the first band
    low, high = values.new_full((most,), torch.inf), values.new_full((most,), -torch.inf)
    return level, low.scatter_reduce(0, level, values, "amin"), high.scatter_reduce(0, level, values, "amax")


def _numbered(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The keys that occur, ascending, and the number of each one among them."""
    used = torch.zeros(int(keys.max()) + 1, dtype=torch.int64)
    used[keys] = 1
    return used.nonzero().squeeze(1), (used.cumsum(0) - 1)[keys]


def _depth(columns: list[_Column], items: int) -> int:
    """How many first columns runs of items share."""
    counts = [math.prod(len(column.source) for column in columns[:depth]) for depth in range(min(3, len(columns)))]
    return max(depth for depth, count in enumerate(counts) if depth == 0 or items >= MEAN_RUN * count)


def _runs(columns: list[_Column], items: int, most: int) -> tuple[Tensor, Tensor]:
    """Items sorted by these columns, and where runs of at most so many that share them begin, with the end."""
    key = torch.zeros(items, dtype=torch.int64)
    for column in columns:
        key = key * len(column.source) + column.of_item
    key, order = key.sort(stable=True)
    begin = torch.cat([torch.zeros(1, dtype=torch.int64), key.diff().nonzero().squeeze(1) + 1])
    lengths = begin.diff(append=torch.tensor([items]))
    pieces = (lengths + most - 1) // most
    nth = torch.arange(int(pieces.sum())) - (pieces.cumsum(0) - pieces).repeat_interleave(pieces)
    return order, torch.cat([begin.repeat_interleave(pieces) + nth * most, torch.tensor([items])])


def _every(items: Any, kernels: ModuleType) -> Any:
    """Every 16th item, without common columns."""
    places, order, weights, prior = (np.ascontiguousarray(a[::STRIDE]) for a in (items.places, *items[3:]))
    runs = np.append(np.arange(0, len(order), kernels.RUN), len(order))
    return kernels.Items(places, runs, 0, order, weights, prior)


def _kernels() -> ModuleType:
    try:
        from adasid_exp.functional import integer_filter_kernels
    except ImportError as error:
        raise UserError("the integer filter needs numba; install it with: pip install 'adasid-exp[numba]'") from error
    return integer_filter_kernels
