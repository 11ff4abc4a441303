"""Orders of rows: by group without a sort, by time within a group, repeats, bounds. All of them stable."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array


def by_group(group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """A counting sort: the rows group by group, in their old order within one.

    The coordinates (group, row) of a sparse matrix become compressed rows in one linear pass; no comparison
    sort comes near it.

    Args:
        group: int32 ``[rows]``, from 0 to ``groups - 1``.
        groups: how many there are.

    Returns:
        First place of each group and one past the last, int64 ``[groups + 1]``; the row at each place, int32.
    """
    size = len(group)
    ones, rows = np.ones(size, dtype=np.int8), np.arange(size, dtype=np.int32)
    matrix = coo_array((ones, (group, rows)), shape=(groups, max(1, size)))
    matrix.has_canonical_format = True  # no place occurs twice: there is nothing to sum up
    compressed = matrix.tocsr()
    return compressed.indptr.astype(np.int64), compressed.indices


def by_time(group: np.ndarray, time: np.ndarray) -> np.ndarray | None:
    """Where rows that lie group by group are out of time's order, the order that mends it; else None.

    Only the groups in question are sorted: logs come nearly in order.

    Args:
        group: ascending ``[rows]``.
        time: int64 ``[rows]``.
    """
    late = np.flatnonzero((time[1:] < time[:-1]) & (group[1:] == group[:-1]))
    if not len(late):
        return None
    wrong = np.zeros(int(group[-1]) + 1, dtype=bool)
    wrong[group[late]] = True
    rows = np.flatnonzero(wrong[group])
    order = np.arange(len(group))
    order[rows] = rows[np.lexsort((time[rows], group[rows]))]
    return order


def repeats(group: np.ndarray, time: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The rows that repeat (group, time, value) of a row above, ascending, int64.

    Args:
        group, time: rows in the order of (group, time).
        value: int32 ``[rows]``.
    """
    second = np.flatnonzero((time[1:] == time[:-1]) & (group[1:] == group[:-1])) + 1
    opens = np.flatnonzero(np.diff(second, prepend=-1) > 1)  # the row above is the first of its moment
    rows = np.insert(second, opens, second[opens] - 1)
    run = np.cumsum(np.insert(np.zeros(len(second), dtype=np.int64), opens, 1))
    order = np.lexsort((value[rows], run))
    run, place = run[order], rows[order]
    return np.sort(place[1:][(run[1:] == run[:-1]) & (value[place[1:]] == value[place[:-1]])])


def others(rows: np.ndarray, size: int) -> np.ndarray:
    """The rows below ``size`` that are not among the given ones, int64."""
    left = np.ones(size, dtype=bool)
    left[rows] = False
    return np.flatnonzero(left)


def lower_bound(values: np.ndarray, first: np.ndarray, last: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each row the first place in ``values[first:last]`` (ascending) not below ``wanted``, else ``last``.

    A binary search of all rows at once.

    Args:
        values: int64.
        first, last: bounds, int64 ``[rows]``.
        wanted: int64 ``[rows]``.
    """
    low, high = first.copy(), last.copy()
    for _ in range(int((last - first).max(initial=0)).bit_length()):
        middle = (low + high) // 2
        below = (low < high) & (values[np.minimum(middle, len(values) - 1)] < wanted)
        low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
    return low
