"""Stretches of a partition's rows, copied into memory and laid one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adasid_exp.data.windows import Windows

WORTH_READING = 0.5
"""Share of a stretch that must be wanted for it to be read as a whole."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Ranges of rows in memory.

    Attributes:
        items: int32 ``[copied]``.
        shift: what takes a row of a range to its place in ``items``, int64 ``[ranges]``.
    """

    items: np.ndarray
    shift: np.ndarray


def copy_ranges(source: np.ndarray, start: np.ndarray, stop: np.ndarray) -> Copied:
    """The ranges ``start`` to ``stop`` (int64 ``[ranges]``, ascending, disjoint) of a mapped array.

    Rows in between come along where most of the stretch is wanted: one long read costs less than many short ones.
    """
    wanted = int((stop - start).sum())
    low, high = (int(start[0]), int(stop[-1])) if len(start) else (0, 0)
    if wanted >= WORTH_READING * (high - low):
        return Copied(items=np.array(source[low:high]), shift=np.full(len(start), -low))
    before = np.cumsum(stop - start) - (stop - start)
    rows = np.arange(wanted) + np.repeat(start - before, stop - start)
    return Copied(items=source[rows], shift=before - start)


@dataclass(frozen=True, kw_only=True)
class Part:
    """The rows of one block, before blocks are joined.

    Attributes:
        items: what the windows are stretches of, int32.
        windows: histories.
        columns: what else a row has, by name, ``[rows]`` each.
    """

    items: np.ndarray
    windows: Windows
    columns: dict[str, np.ndarray]


def join(parts: Sequence[Part]) -> Part:
    """Blocks one after the other."""
    shifts = np.cumsum([0, *(len(part.items) for part in parts)])
    starts = [part.windows.start + shift for part, shift in zip(parts, shifts, strict=False)]
    return Part(
        items=np.concatenate([part.items for part in parts]),
        windows=Windows(start=np.concatenate(starts), length=np.concatenate([part.windows.length for part in parts])),
        columns={name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )
