"""The compiled kernels of `integer_filter`; importing this file needs the numba extra.

What an item lacks of the best score there could be is summed in bytes, 64 users in one register, and only items whose
sum does not exclude a user are scored in float32, for that user alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from adasid_exp.functional.scoring_kernels import sink, worse

LANES = 64
"""Users of one table: one 64-byte register of bytes."""

RUN = 256
"""Most items of a run, and of those that wait for their exact scores when a run begins."""

ALL = 255
"""As a user's reach: every item is near. In the table: at least so many steps short."""

STEPS = 254
"""Steps from the best score there could be to the score that an item must have."""

SLACK = 2.0**-8
"""Steps by which reach is longer than it need be: many times the rounding of a sum of steps in float64."""

LARGEST = 2.0**127
"""A sum of sizes below which no float32 sum overflows."""

_BYTE, _LONG = ir.IntType(8), ir.IntType(64)
_VECTOR = ir.VectorType(_BYTE, LANES)


class Rows(NamedTuple):
    """What a row of the byte table stands for.

    Attributes:
        columns: where the rows of each column of an item begin, and the end, int64 ``[columns + 1]``.
        source: which of a user's log-probabilities, int64 ``[rows]``; -1 for none.
        low: least weight of an item with this row, float64 ``[rows]``.
        high: greatest weight.
        offset: greatest prior, float64 ``[rows]``.
    """

    columns: np.ndarray
    source: np.ndarray
    low: np.ndarray
    high: np.ndarray
    offset: np.ndarray


class Items(NamedTuple):
    """Items in the order they are visited in.

    Attributes:
        places: rows of the byte table that each item adds up, unsigned ``[items, columns]``.
        runs: where each run begins, and the end, int64 ``[runs + 1]``.
        depth: how many of their first columns the items of a run have in common.
        order: int64 ``[items]``, the item at each place.
        weights: float32 ``[items, slots]``; ``[0, slots]`` for ones.
        prior: float32 ``[items]``.
    """

    places: np.ndarray
    runs: np.ndarray
    depth: int
    order: np.ndarray
    weights: np.ndarray
    prior: np.ndarray


class Users(NamedTuple):
    """A table's users.

    Attributes:
        log_probs: float32 ``[users, slots * classes]``.
        top: the best value of each column, float64 ``[users, columns]``.
        best: more than any item's score, float64 ``[users]``.
        cut: what an item of the list must score, float32 ``[users]``.
        steps: steps in a unit of score, float64 ``[users]``.
    """

    log_probs: np.ndarray
    top: np.ndarray
    best: np.ndarray
    cut: np.ndarray
    steps: np.ndarray


class Lists(NamedTuple):
    """What was found: heaps whose root is the worst, once they are full.

    Attributes:
        scores: float32 ``[users, k]``.
        items: int64 ``[users, k]``.
        held: how many there are, int64 ``[users]``.
        tried: how many items were scored, int64 ``[users]``.
    """

    scores: np.ndarray
    items: np.ndarray
    held: np.ndarray
    tried: np.ndarray


def _near(
    typingctx: Any,
    table: Any,
    places: Any,
    depth: Any,
    start: Any,
    stop: Any,
    reach: Any,
    items: Any,
    lanes: Any,
    found: Any,
) -> tuple[Any, Any]:
    """Appends to ``items`` and ``lanes`` the items of a run whose sum of bytes is within some user's reach.

    Sums stay at 255. What the items of a run have in common is summed once, and where that alone is out of everyone's
    reach, no item is looked at.

    Args:
        typingctx: numba's.
        table: uint8 ``[rows, LANES]``.
        places: as in `Items`.
        depth: as in `Items`.
        start: first item of the run.
        stop: its end.
        reach: uint8 ``[LANES]``.
        items: int64, room for a run beyond ``found``.
        lanes: the same; bit u says whether the item is near for user u.
        found: entries so far.

    Returns:
        Entries after it.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays: list[Any] = [
            context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else None
            for kind, value in zip(signature.args, values, strict=True)
        ]
        columns = builder.extract_value(arrays[1].shape, 1)
        limit = _vector_at(builder, arrays[5].data, _long(0))
        count = cgutils.alloca_once_value(builder, values[8])
        shared = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0] * LANES))
        total = cgutils.alloca_once(builder, _VECTOR)
        _add(builder, arrays[0], arrays[1], total=shared, item=values[3], begin=_long(0), end=values[2])
        with (
            builder.if_then(_any(builder, _within(builder, builder.load(shared), limit))),
            cgutils.for_range_slice(builder, values[3], values[4], _long(1)) as (item, _),
        ):
            builder.store(builder.load(shared), total)
            _add(builder, arrays[0], arrays[1], total=total, item=item, begin=values[2], end=columns)
            near_to = _within(builder, builder.load(total), limit)
            with builder.if_then(_any(builder, near_to), likely=False):
                end = builder.load(count)
                builder.store(item, builder.gep(arrays[6].data, [end]))
                builder.store(near_to, builder.gep(arrays[7].data, [end]))
                builder.store(builder.add(end, _long(1)), count)
        return builder.load(count)

    counts = [types.int64] * 3
    return types.int64(table, places, *counts, reach, items, lanes, types.int64), generate


near: Any = intrinsic(_near)


def _lowest(typingctx: Any, bits: Any) -> tuple[Any, Any]:
    """The place of the lowest bit that is set; there must be one."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


lowest: Any = intrinsic(_lowest)


def _fused(typingctx: Any, factor: Any, value: Any, total: Any) -> tuple[Any, Any]:
    """``factor * value + total``, rounded once, float32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fma(*values)

    return types.float32(types.float32, types.float32, types.float32), generate


fused: Any = intrinsic(_fused)


def _long(value: int) -> Any:
    return ir.Constant(_LONG, value)


def _add(builder: Any, table: Any, places: Any, *, total: Any, item: Any, begin: Any, end: Any) -> None:
    """Adds some columns of an item to ``total``."""
    start = builder.mul(item, builder.extract_value(places.shape, 1))
    with cgutils.for_range_slice(builder, begin, end, _long(1)) as (column, _):
        row = builder.zext(builder.load(builder.gep(places.data, [builder.add(start, column)])), _LONG)
        short = _vector_at(builder, table.data, builder.mul(row, _long(LANES)))
        builder.store(builder.call(_saturating(builder), [builder.load(total), short]), total)


def _vector_at(builder: Any, data: Any, offset: Any) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer()), align=1)


def _saturating(builder: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 2)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.uadd.sat.v{LANES}i8")


def _within(builder: Any, total: Any, limit: Any) -> Any:
    return builder.bitcast(builder.icmp_unsigned("<=", total, limit), _LONG)


def _any(builder: Any, bits: Any) -> Any:
    return builder.icmp_unsigned("!=", bits, _long(0))


@njit(nogil=True)
def value(rows: Rows, row: int, log_probs: np.ndarray) -> float:
    """The most that a row adds to an item's score, float64."""
    source = rows.source[row]
    if source < 0:
        return rows.offset[row]
    looked_up = np.float64(log_probs[source])
    return max(rows.low[row] * looked_up, rows.high[row] * looked_up)


@njit(nogil=True)
def find_tops(rows: Rows, users: Users) -> None:
    """Fills ``top`` and ``best``: the sum of the tops, and more than float32 can round a sum of such numbers up.

    Where the sums may overflow in between nothing can be said, and ``best`` is infinite.
    """
    columns = len(rows.columns) - 1
    for user in range(len(users.best)):
        total, size = 0.0, 0.0
        for column in range(columns):
            top, most = -np.inf, 0.0
            for row in range(rows.columns[column], rows.columns[column + 1]):
                one = value(rows, row, users.log_probs[user])
                top = max(top, one)
                if one > -np.inf:
                    most = max(most, abs(one))
            users.top[user, column] = top
            total += top
            size += most
        users.best[user] = total + size * (columns + 3) * 2.0**-23 if size < LARGEST else np.inf


@njit(nogil=True, error_model="numpy")
def fill(rows: Rows, users: Users, table: np.ndarray) -> None:
    """Fills ``steps`` for the users' cuts and ``table`` uint8 ``[rows, LANES]``: steps from the top, rounded down."""
    for user in range(len(users.best)):
        steps = STEPS / (users.best[user] - users.cut[user])
        users.steps[user] = steps
        for column in range(len(rows.columns) - 1):
            for row in range(rows.columns[column], rows.columns[column + 1]):
                short = (users.top[user, column] - value(rows, row, users.log_probs[user])) * steps
                table[row, user] = np.uint8(short) if short < ALL else ALL


@njit(nogil=True)
def reach_of(users: Users, user: int) -> int:
    """Steps that an item of the user's list may be short of the best; all where steps tell nothing."""
    reach = (users.best[user] - users.cut[user]) * users.steps[user] + SLACK
    return int(reach) if 0 <= reach < ALL else ALL


@njit(nogil=True, inline="always")
def exact_score(
    log_probs: np.ndarray,
    user: int,
    source: np.ndarray,
    places: np.ndarray,
    weights: np.ndarray,
    prior: np.ndarray,
    item: int,
) -> float:
    """An item's score for one user, added up as the other scans do: slot after slot, then the prior."""
    total, slots = np.float32(0.0), weights.shape[1]
    first = places.shape[1] - slots
    if len(weights):
        for slot in range(slots):
            total = fused(weights[item, slot], log_probs[user, source[places[item, first + slot]]], total)
    else:
        for slot in range(slots):
            total += log_probs[user, source[places[item, first + slot]]]
    return total + prior[item]


@njit(nogil=True)
def score_some(rows: Rows, items: Items, users: Users, chosen: np.ndarray, scores: np.ndarray) -> None:
    """Scores of ``chosen`` places for each user, float32 ``[users, chosen]``."""
    source, places, weights, prior = rows.source, items.places, items.weights, items.prior  # counted once, not per item
    log_probs = users.log_probs
    for user in range(len(scores)):
        for number, item in enumerate(chosen):
            scores[user, number] = exact_score(log_probs, user, source, places, weights, prior, item)


@njit(nogil=True)
def keep(
    cut: np.ndarray, scores: np.ndarray, names: np.ndarray, held: np.ndarray, user: int, score: float, name: int
) -> None:
    """Puts an item on a user's list, where it belongs there; a full list raises the cut."""
    k = scores.shape[1]
    if held[user] < k:
        scores[user, held[user]], names[user, held[user]] = score, name
        held[user] += 1
        if held[user] < k:
            return
        for place in range(k // 2 - 1, -1, -1):
            sink(scores[user], names[user], place)
    elif worse(scores[user, 0], names[user, 0], score, name):
        scores[user, 0], names[user, 0] = score, name
        sink(scores[user], names[user], 0)
    cut[user] = max(cut[user], scores[user, 0])


@njit(nogil=True)
def pair_up(near_items: np.ndarray, near_lanes: np.ndarray, found: int, users: np.ndarray, items: np.ndarray) -> int:
    """A pair of user and item for each bit of what is near; how many."""
    pairs = 0
    for entry in range(found):
        lanes = near_lanes[entry]
        while lanes:
            users[pairs], items[pairs] = lowest(lanes), near_items[entry]
            lanes &= lanes - 1
            pairs += 1
    return pairs


@njit(nogil=True)
def score_pairs(
    rows: Rows, items: Items, users: Users, pair_users: np.ndarray, pair_items: np.ndarray, scores: np.ndarray
) -> None:
    """Exact scores; what comes of them is seen to later, so that many look-ups are under way at once."""
    source, places, weights, prior = rows.source, items.places, items.weights, items.prior
    log_probs = users.log_probs
    for pair in range(len(pair_users)):
        user, item = pair_users[pair], pair_items[pair]
        scores[pair] = exact_score(log_probs, user, source, places, weights, prior, item)


@njit(nogil=True)
def settle(
    order: np.ndarray, cut: np.ndarray, lists: Lists, users: np.ndarray, items: np.ndarray, pair_scores: np.ndarray
) -> int:
    """Puts pairs on the lists; bit u of the result says whether there was one of user u."""
    scores, names, held, tried = lists.scores, lists.items, lists.held, lists.tried
    seen = 0
    for pair in range(len(users)):
        user = users[pair]
        seen |= 1 << user
        tried[user] += 1
        if pair_scores[pair] >= cut[user]:
            keep(cut, scores, names, held, user, pair_scores[pair], order[items[pair]])
    return seen


@njit(nogil=True)
def gather(
    table: np.ndarray, items: Items, run: int, reach: np.ndarray, near_items: np.ndarray, near_lanes: np.ndarray
) -> tuple[int, int]:
    """Visits runs until enough items are near; the run that comes next, and how many are."""
    places, runs, depth, found = items.places, items.runs, items.depth, 0
    while run < len(runs) - 1 and found < RUN:
        found = near(table, places, depth, runs[run], runs[run + 1], reach, near_items, near_lanes, found)
        run += 1
    return run, found


@njit(nogil=True)
def look_again(users: Users, user: int, lists: Lists, table: np.ndarray, budget: int, reach: np.ndarray) -> None:
    """A user's reach after the cut has moved; nothing any more where too much was scored."""
    if lists.tried[user] > budget:
        table[:, user], reach[user] = ALL, 0
    else:
        reach[user] = reach_of(users, user)


@njit(nogil=True)
def scan(rows: Rows, items: Items, users: Users, lists: Lists, table: np.ndarray, budget: int) -> None:
    """Fills the lists. A user for whom more than ``budget`` items had to be scored is left unfinished."""
    reach = np.zeros(LANES, np.uint8)
    for user in range(len(users.best)):
        look_again(users, user, lists, table, budget, reach)
    near_items, near_lanes, run = np.empty(2 * RUN, np.int64), np.empty(2 * RUN, np.int64), 0
    room = 2 * RUN * LANES
    pair_users, pair_items, scores = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.float32)
    while run < len(items.runs) - 1:
        run, found = gather(table, items, run, reach, near_items, near_lanes)
        pairs = pair_up(near_items, near_lanes, found, pair_users, pair_items)
        score_pairs(rows, items, users, pair_users[:pairs], pair_items[:pairs], scores)
        seen = settle(items.order, users.cut, lists, pair_users[:pairs], pair_items[:pairs], scores)
        while seen:
            look_again(users, lowest(seen), lists, table, budget, reach)
            seen &= seen - 1
