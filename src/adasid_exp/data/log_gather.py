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
from adasid_exp.data.log_spill import COLUMNS, USER_BOUNDS, USERS, Stretch, unpack
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
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        return cls(folder=folder, **{name: np.asarray(array) for name, array in arrays.items()})

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
        stretches: its rows in all `Spill` pieces, in the order of the shards.
        text_users: whether users' ids are text.
    """

    partition: int
    stretches: tuple[Stretch, ...]
    text_users: bool

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        columns = self._rows()
        ids, user = self._users(columns.pop("user"))
        bounds, order = by_group(user, len(ids))
        user = np.repeat(np.arange(len(ids), dtype=np.int32), np.diff(bounds))
        rows = order.astype(np.int64)
        columns = {name: column.take(rows) for name, column in columns.items()}
        mended = by_time(user, columns["timestamp"])
        if mended is not None:
            columns = {name: column.take(mended) for name, column in columns.items()}
        ids.to_frame("user").write_ipc(folder / USERS)
        interaction, label = unpack(columns.pop("kind"))
        dropped = _save(folder, "", len(ids), user, columns, interaction)
        seen = _save(folder, "impression_", len(ids), user, {**columns, "label": label}, label >= 0)
        return {"repeated": {"interactions": dropped, "impressions": seen}}

    def _rows(self) -> dict[str, np.ndarray]:
        """The `COLUMNS` of all rows, as read."""
        columns = {name: np.empty(self.rows, dtype=dtype) for name, dtype in COLUMNS.items()}
        first = 0
        for stretch in self.stretches:
            last = first + stretch.last - stretch.first
            stretch.read({name: column[first:last] for name, column in columns.items()})
            first = last
        return columns

    def _users(self, user: np.ndarray) -> tuple[pl.Series, np.ndarray]:
        """Sorted ids, and of each row the place of its id among them, int32."""
        if not self.text_users:
            return encode_sorted(pl.Series(user))
        parts = [_ids(stretch.folder, self.partition) for stretch in self.stretches]
        ids, place = encode_sorted(pl.concat([pl.Series(dtype=pl.String), *parts]))
        before = lengths_to_offsets(np.array([len(part) for part in parts]))[:-1]
        rows = np.array([stretch.last - stretch.first for stretch in self.stretches])
        return ids, place[user + np.repeat(before, rows)]


def _ids(spill: Path, partition: int) -> pl.Series:
    first, last = np.load(spill / USER_BOUNDS, mmap_mode="r")[partition : partition + 2].tolist()
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
