"""Second pass over logs: a partition's rows from all spills, by user and time, without repeats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.data.log_ids import encode_sorted
from adasid_exp.data.log_order import by_group, by_time, repeats
from adasid_exp.data.log_spill import USERS, unpack
from adasid_exp.data.pieces import Piece


@dataclass(frozen=True, kw_only=True)
class SortedPartition:
    """All rows of a partition's users, by (user, timestamp, as read).

    Attributes:
        folder: of the `Gather`.
        offsets, item, timestamp: of the interactions, int64, int32, int64.
        impression_offsets, impression_item, impression_timestamp, label: of the impressions.
    """

    folder: Path
    offsets: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    impression_offsets: np.ndarray
    impression_item: np.ndarray
    impression_timestamp: np.ndarray
    label: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Maps what a `Gather` wrote."""
        return cls(folder=folder, **{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS})

    @cached_property
    def user_ids(self) -> pl.Series:
        """Raw ids, sorted."""
        return pl.read_ipc(self.folder / USERS)["user"]


ARRAYS = ("offsets", "item", "timestamp", "impression_offsets", "impression_item", "impression_timestamp", "label")


@dataclass(frozen=True, kw_only=True)
class Gather(Piece):
    """A `SortedPartition`.

    Attributes:
        partition: its number.
        spills: folders of all `Spill` pieces, in the order of the shards.
    """

    partition: int
    spills: tuple[Path, ...]

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        ids, user, columns = self._collected()
        bounds, order = by_group(user, len(ids))
        user = np.repeat(np.arange(len(ids), dtype=np.int32), np.diff(bounds))
        columns = {name: column[order] for name, column in columns.items()}
        mended = by_time(user, columns["timestamp"])
        if mended is not None:
            columns = {name: column[mended] for name, column in columns.items()}
        ids.to_frame("user").write_ipc(folder / USERS)
        interaction, label = unpack(columns.pop("kind"))
        dropped = _save(folder, "", len(ids), user, columns, interaction)
        seen = _save(folder, "impression_", len(ids), user, {**columns, "label": label}, label >= 0)
        return {"repeated": {"interactions": dropped, "impressions": seen}}

    def _collected(self) -> tuple[pl.Series, np.ndarray, dict[str, np.ndarray]]:
        """Sorted ids; of each row the user's place among them and ``item, timestamp, kind``, as read."""
        bounds = [_bounds(spill, "bounds", self.partition) for spill in self.spills]
        users = [_bounds(spill, "user_bounds", self.partition) for spill in self.spills]
        parts = [_ids(spill, *bound) for spill, bound in zip(self.spills, users, strict=True)]
        ids, place = encode_sorted(pl.concat(parts))
        starts = lengths_to_offsets(np.array([len(part) for part in parts]))
        stops = lengths_to_offsets(np.array([last - first for first, last in bounds]))
        types = {"user": np.int32, "item": np.int32, "timestamp": np.int64, "kind": np.int8}
        columns = {name: np.empty(stops[-1], dtype=dtype) for name, dtype in types.items()}
        for number, (spill, (first, last)) in enumerate(zip(self.spills, bounds, strict=True)):
            here = slice(stops[number], stops[number + 1])
            for name, column in columns.items():
                column[here] = np.load(spill / f"{name}.npy", mmap_mode="r")[first:last]
            columns["user"][here] = place[starts[number] : starts[number + 1]][columns["user"][here]]
        return ids, columns.pop("user"), columns


def _bounds(spill: Path, name: str, partition: int) -> tuple[int, int]:
    first, last = np.load(spill / f"{name}.npy", mmap_mode="r")[partition : partition + 2]
    return int(first), int(last)


def _ids(spill: Path, first: int, last: int) -> pl.Series:
    return pl.scan_ipc(spill / USERS).slice(first, last - first).collect()["user"]


def _save(
    folder: Path, prefix: str, users: int, user: np.ndarray, columns: dict[str, np.ndarray], mask: np.ndarray
) -> int:
    """Writes the masked rows without repeats of (user, timestamp, item); returns how many repeats there were."""
    if not mask.all():
        user, columns = user[mask], {name: column[mask] for name, column in columns.items()}
    again = repeats(user, columns["timestamp"], columns["item"])
    dropped = int(again.sum())
    if dropped:
        user, columns = user[~again], {name: column[~again] for name, column in columns.items()}
    np.save(folder / f"{prefix}offsets.npy", lengths_to_offsets(np.bincount(user, minlength=users)))
    for name, column in columns.items():
        np.save(folder / f"{name if name == 'label' else prefix + name}.npy", column)
    return dropped
