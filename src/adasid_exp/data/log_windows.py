"""Stretches of mapped arrays, copied into memory a block at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adasid_exp.data.windows import Windows


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Ranges of an array, in memory.

    Attributes:
        items: what was copied, int32.
        shift: what to add to a place in the array, within each range, to find it in ``items``, int64 ``[ranges]``.
    """

    items: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Part:
    """Windows over items in memory, and columns with one entry a window.

    Attributes:
        items: int32.
        windows: stretches of them.
        columns: arrays ``[windows]`` by name.
    """

    items: np.ndarray
    windows: Windows
    columns: Mapping[str, np.ndarray]


def copy_ranges(array: np.ndarray, start: np.ndarray, stop: np.ndarray) -> Copied:
    """Copies ``array[start:stop]`` of each range; in one piece where the ranges nearly touch.

    Args:
        array: mapped.
        start, stop: int64 ``[ranges]``.
    """
    length = stop - start
    used = length > 0
    if not used.any():
        return Copied(items=np.array(array[:0]), shift=-start)
    first, last = int(start[used].min()), int(stop[used].max())
    if last - first <= 2 * int(length.sum()):
        return Copied(items=np.array(array[first:last]), shift=np.full(len(start), -first, dtype=np.int64))
    before = np.cumsum(length) - length
    rows = np.arange(int(length.sum())) + np.repeat(start - before, length)
    return Copied(items=np.asarray(array[rows]), shift=before - start)


def join(parts: Sequence[Part]) -> Part:
    """Parts one after the other."""
    before = np.cumsum([0, *(len(part.items) for part in parts)])
    start = np.concatenate([part.windows.start + shift for part, shift in zip(parts, before, strict=False)])
    return Part(
        items=np.concatenate([part.items for part in parts]),
        windows=Windows(start=start, length=np.concatenate([part.windows.length for part in parts])),
        columns={name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )
