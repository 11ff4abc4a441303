"""Who and what stays: counts over all partitions, items and users below a minimum taken out until none is left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.data.log_gather import SortedPartition
from adasid_exp.data.pieces import Piece

HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Survivors:
    """What is left of a partition.

    Attributes:
        users: bool ``[users]``.
        rows: of the interactions, bool ``[rows]``, or the slice of all.
        impressions: bool ``[impressions]``, or the slice of all.
    """

    users: np.ndarray
    rows: np.ndarray | slice
    impressions: np.ndarray | slice


def survivors(part: SortedPartition, alive: np.ndarray, minimum: int) -> Survivors:
    """Users with at least ``minimum`` interactions with items that are alive, and what they did with those."""
    if alive.all():
        users = np.diff(part.offsets) >= minimum
        if users.all():
            return Survivors(users=users, rows=slice(None), impressions=slice(None))
    rows = alive[part.item]
    total = lengths_to_offsets(rows)
    users = total[part.offsets[1:]] - total[part.offsets[:-1]] >= minimum
    return Survivors(
        users=users,
        rows=rows & np.repeat(users, np.diff(part.offsets)),
        impressions=alive[part.impression_item] & np.repeat(users, np.diff(part.impression_offsets)),
    )


@dataclass(frozen=True, kw_only=True)
class Census(Piece):
    """Counts of one partition: interactions of each item, impressions of each hour.

    Attributes:
        part: folder of the `SortedPartition`.
        alive: file of a bool array over the catalogue.
        minimum: interactions a user needs.
        ticks_per_second: of the timestamps.
    """

    part: Path
    alive: Path
    minimum: int
    ticks_per_second: int

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        part = SortedPartition.load(self.part)
        alive = np.load(self.alive)
        return count_all(folder, part, survivors(part, alive, self.minimum), self.ticks_per_second)


def count_all(folder: Path, part: SortedPartition, left: Survivors, ticks_per_second: int) -> dict[str, int]:
    """Writes the counts ``items`` and ``hours`` of what is left; returns its sizes."""
    items, moments = part.item[left.rows], part.impression_timestamp[left.impressions]
    save_counts(folder, "items", items)
    save_counts(folder, "hours", moments // (HOUR * ticks_per_second))
    return {"users": int(left.users.sum()), "interactions": len(items), "impressions": len(moments)}


def save_counts(folder: Path, name: str, values: np.ndarray) -> None:
    """How often each value occurs, without those that never do: two columns, int64 ``[values, 2]``."""
    first = int(values.min()) if len(values) else 0
    counts = np.bincount(values - first if first else values)
    found = np.flatnonzero(counts)
    np.save(folder / f"{name}.npy", np.stack([found + first, counts[found]], axis=1))


def add_counts(folders: list[Path], name: str, size: int) -> np.ndarray:
    """The sum of what `save_counts` wrote for values below ``size``, int64 ``[size]``."""
    total = np.zeros(size, dtype=np.int64)
    for folder in folders:
        values, counts = np.load(folder / f"{name}.npy").T
        total[values] += counts
    return total
