"""The compiled kernel of `scoring_numba`; importing this file needs the numba extra.

Scores of one item for all users of a table live in registers: they are summed, compared with the users' k-th best and
forgotten, save the few that are better. Nothing of the size of the catalogue is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 32
"""Users of one table: two 64-byte registers of float32."""

_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def _score_item(
    typingctx: Any, table: Any, rows: Any, weights: Any, prior: Any, item: Any, cut: Any, out: Any
) -> tuple[Any, Any]:
    """Writes an item's scores to ``out``; bit u of the result says whether user u's is above ``cut[u]``.

    Numba does not turn a loop over so few users into vector instructions, so they are written out here. The sum goes
    in the order of the slots; a weighted one rounds once a slot, as torch's embedding_bag does for most widths.

    Args:
        typingctx: numba's.
        table: float32 ``[slots * classes, LANES]``.
        rows: int32 ``[items, slots]``.
        weights: float32 ``[items, slots]`` or None.
        prior: float32 ``[items]``.
        item: which.
        cut: float32 ``[LANES]``.
        out: float32 ``[LANES]``.
    """
    weighed = not isinstance(weights, types.NoneType)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays: list[Any] = [
            context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else None
            for kind, value in zip(signature.args, values, strict=True)
        ]
        slots = builder.extract_value(arrays[1].shape, 1)
        start = builder.mul(values[4], slots)
        total = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * LANES))
        with cgutils.for_range(builder, slots) as loop:
            place = builder.add(start, loop.index)
            row = builder.sext(builder.load(builder.gep(arrays[1].data, [place])), ir.IntType(64))
            looked_up = _vector_at(builder, arrays[0].data, builder.mul(row, ir.Constant(ir.IntType(64), LANES)))
            if weighed:
                factor = _spread(builder, builder.load(builder.gep(arrays[2].data, [place])))
                added = builder.call(_fma(builder), [factor, looked_up, builder.load(total)])
            else:
                added = builder.fadd(builder.load(total), looked_up)
            builder.store(added, total)
        score = builder.fadd(
            builder.load(total), _spread(builder, builder.load(builder.gep(arrays[3].data, [values[4]])))
        )
        builder.store(score, _pointer(builder, arrays[6].data), align=4)
        above = builder.fcmp_ordered(">", score, _vector_at(builder, arrays[5].data, ir.Constant(ir.IntType(64), 0)))
        return builder.zext(builder.bitcast(above, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(table, rows, weights, prior, item, cut, out), generate


score_item: Any = intrinsic(_score_item)


def _pointer(builder: Any, data: Any) -> Any:
    return builder.bitcast(data, _VECTOR.as_pointer())


def _vector_at(builder: Any, data: Any, offset: Any) -> Any:
    return builder.load(_pointer(builder, builder.gep(data, [offset])), align=4)


def _fma(builder: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")


def _spread(builder: Any, value: Any) -> Any:
    """A scalar in every lane."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), places)


@njit(nogil=True)
def worse(score: float, item: int, other_score: float, other_item: int) -> bool:
    """Whether the first comes after the second by (score descending, item ascending)."""
    return score < other_score or (score == other_score and item > other_item)


@njit(nogil=True)
def sink(scores: np.ndarray, items: np.ndarray, place: int) -> None:
    """Moves an entry of a heap whose root is the worst down to where it belongs."""
    score, item, size = scores[place], items[place], len(scores)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and worse(scores[child + 1], items[child + 1], scores[child], items[child]):
            child += 1
        if not worse(scores[child], items[child], score, item):
            break
        scores[place], items[place] = scores[child], items[child]
        place = child
    scores[place], items[place] = score, item


@njit(nogil=True)
def scan(
    table: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray | None,
    prior: np.ndarray,
    scores: np.ndarray,
    items: np.ndarray,
) -> None:
    """Fills the heaps ``scores`` float32 and ``items`` int64, both ``[LANES, k]``; see `_score_item` for the rest."""
    k = scores.shape[1]
    cut, out = np.full(LANES, -np.inf, np.float32), np.empty(LANES, np.float32)
    for item in range(k):
        score_item(table, rows, weights, prior, item, cut, out)
        scores[:, item] = out
        items[:, item] = item
    for user in range(LANES):
        for place in range(k // 2 - 1, -1, -1):
            sink(scores[user], items[user], place)
        cut[user] = scores[user, 0]
    for item in range(k, len(rows)):
        above, user = score_item(table, rows, weights, prior, item, cut, out), 0
        while above:
            if above & 1:
                scores[user, 0], items[user, 0] = out[user], item
                sink(scores[user], items[user], 0)
                cut[user] = scores[user, 0]
            above >>= 1
            user += 1
