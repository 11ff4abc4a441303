"""Second pass over logs: a partition's rows from all spills, by user and time, without repeats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from adasid_exp.artifacts.files import mapped
from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.data.log_ids import encode_sorted
from adasid_exp.data.log_order import by_group, by_time, others, repeats
from adasid_exp.data.log_spill import COLUMNS, USER_BOUNDS, USERS, Stretch, unpack
from adasid_exp.data.pieces import Piece

ARRAYS = ("offsets", "item", "timestamp", "impression_offsets", "impression_item", "impression_timestamp", "label")


@dataclass(frozen=True, kw_only=True)
class SortedPartition:
    """All rows of a partition's users, by (user, timestamp, as read).

    Attributes:
        user_ids: raw ids, sorted.
        offsets, item, timestamp: of the interactions, int64, int32, int64.
        impression_offsets, impression_item, impression_timestamp, label: of the impressions.
    """

    user_ids: pl.Series
    offsets: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    impression_offsets: np.ndarray
    impression_item: np.ndarray
    impression_timestamp: np.ndarray
    label: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Maps what `save` wrote."""
        arrays = {name: mapped(folder / f"{name}.npy") for name in ARRAYS}
        return cls(user_ids=pl.read_ipc(folder / USERS)["user"], **arrays)

    def save(self, folder: Path) -> None:
        """Writes ids and arrays."""
        self.user_ids.to_frame("user").write_ipc(folder / USERS)
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Spilled:
    """A partition's rows as they lie in the spills.

    Attributes:
        partition: its number.
        stretches: its rows in all `Spill` pieces, in the order of the shards.
        text_users: whether users' ids are text.
    """

    partition: int
    stretches: tuple[Stretch, ...]
    text_users: bool

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(stretch.rows for stretch in self.stretches)

    def sorted(self) -> tuple[SortedPartition, dict[str, int]]:
        """The partition, and how many repeated interactions and impressions were dropped."""
        columns = self._read()
        ids, user = self._users(columns.pop("user"))
        bounds, order = by_group(user, len(ids))
        columns = _taken(columns, order.astype(np.int64))
        user = np.repeat(np.arange(len(ids), dtype=np.int32), np.diff(bounds))
        mended = by_time(user, columns["timestamp"])
        columns = columns if mended is None else _taken(columns, mended)
        interaction, label = unpack(columns.pop("kind"))
        rows = _chosen(columns, user, bounds, interaction)
        seen = _chosen({**columns, "label": label}, user, bounds, label >= 0)
        part = SortedPartition(
            user_ids=ids,
            offsets=rows.offsets,
            impression_offsets=seen.offsets,
            label=seen.columns.pop("label"),
            **rows.columns,
            **{f"impression_{name}": column for name, column in seen.columns.items()},
        )
        return part, {"interactions": rows.repeated, "impressions": seen.repeated}

    def _read(self) -> dict[str, np.ndarray]:
        """The `COLUMNS` of all rows, as read."""
        columns = {name: np.empty(self.rows, dtype=dtype) for name, dtype in COLUMNS.items()}
        first = 0
        for stretch in self.stretches:
            stretch.read({name: column[first : first + stretch.rows] for name, column in columns.items()})
            first += stretch.rows
        return columns

    def _users(self, user: np.ndarray) -> tuple[pl.Series, np.ndarray]:
        """Sorted ids, and of each row the place of its id among them, int32."""
        if not self.text_users:
            return encode_sorted(pl.Series(user))
        parts = [_ids(stretch.folder, self.partition) for stretch in self.stretches]
        ids, place = encode_sorted(pl.concat([pl.Series(dtype=pl.String), *parts]))
        before = lengths_to_offsets(np.array([len(part) for part in parts]))[:-1]
        return ids, place[user + np.repeat(before, [stretch.rows for stretch in self.stretches])]


def _ids(spill: Path, partition: int) -> pl.Series:
    first, last = np.load(spill / USER_BOUNDS, mmap_mode="r")[partition : partition + 2].tolist()
    return pl.scan_ipc(spill / USERS).slice(first, last - first).collect()["user"]


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """Rows of one kind, by user; and how many repeats there were."""

    offsets: np.ndarray
    columns: dict[str, np.ndarray]
    repeated: int


def _chosen(columns: dict[str, np.ndarray], user: np.ndarray, bounds: np.ndarray, mask: np.ndarray) -> _Chosen:
    """The masked rows without repeats of (user, timestamp, item); columns that stay whole are not copied."""
    if not mask.all():
        rows = np.flatnonzero(mask)
        user, columns, bounds = user.take(rows), _taken(columns, rows), np.searchsorted(rows, bounds)
    again = repeats(user, columns["timestamp"], columns["item"])
    if len(again):
        columns, bounds = _taken(columns, others(again, len(user))), bounds - np.searchsorted(again, bounds)
    return _Chosen(offsets=bounds, columns=columns, repeated=len(again))


def _taken(columns: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column.take(rows) for name, column in columns.items()}


@dataclass(frozen=True, kw_only=True)
class Gather(Piece):
    """A `SortedPartition` in files.

    Attributes:
        spilled: its rows.
    """

    spilled: Spilled

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        part, repeated = self.spilled.sorted()
        part.save(folder)
        return {"repeated": repeated}
