"""First pass over logs: a few shards at a time, dealt to partitions by the hash of the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.data.log_events import Chunk, EventFormat, joined, read_chunk
from adasid_exp.data.log_ids import encode, hash_ids
from adasid_exp.data.log_items import ItemFormat, open_catalogue, save_catalogue
from adasid_exp.data.log_order import by_group
from adasid_exp.data.log_source import LogSource
from adasid_exp.data.pieces import Piece
from adasid_exp.data.policy import BadRows

ROWS, BOUNDS = "rows.bin", "bounds.npy"
USERS, USER_BOUNDS = "users.arrow", "user_bounds.npy"
COLUMNS = {"user": np.int64, "timestamp": np.int64, "item": np.int32, "kind": np.int8}
ROW_BYTES = sum(np.dtype(dtype).itemsize for dtype in COLUMNS.values())


@dataclass(frozen=True, kw_only=True)
class CatalogueIds(Piece):
    """The ids of the catalogue.

    Attributes:
        root: of the logs.
        form: of the tables of items.
        whole: whether ids are int64, else text.
        on_bad_row: the policy.
    """

    root: str
    form: ItemFormat
    whole: bool
    on_bad_row: str

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        bad = BadRows(self.on_bad_row)
        dtype = pl.Int64() if self.whole else pl.String()
        save_catalogue(LogSource(root=self.root), self.form, dtype, folder, bad)
        return {"skipped": bad.skipped}


@dataclass(frozen=True, kw_only=True)
class Spill(Piece):
    """Some chunks of events, checked, their rows in the order of (partition, as read).

    Files: ``rows.bin`` (one partition after the other, of each its `COLUMNS` one after the other, so that a
    partition is one stretch of the file) and ``bounds.npy`` (first row of each partition). ``user`` is the raw id;
    where ids are text it is the place among the partition's distinct ids here, which are in ``users.arrow``,
    bounded by ``user_bounds.npy``.

    Attributes:
        root: of the logs.
        form: of the events.
        chunks: what to read.
        catalogue: folder of the `CatalogueIds`.
        partitions: how many.
        text_users: whether users' ids are text.
        on_bad_row: the policy.
    """

    root: str
    form: EventFormat
    chunks: tuple[Chunk, ...]
    catalogue: Path
    partitions: int
    text_users: bool
    on_bad_row: str

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        bad, source, catalogue = BadRows(self.on_bad_row), LogSource(root=self.root), open_catalogue(self.catalogue)
        events = joined([read_chunk(source, self.form, chunk, catalogue, bad) for chunk in self.chunks])
        part, user = self._dealt(events.user, folder)
        bounds, order = by_group(part, self.partitions)
        kind = pack(events.interaction, events.label)
        found = {"user": user, "timestamp": events.timestamp, "item": events.item, "kind": kind}
        with (folder / ROWS).open("wb") as file:
            for first, last in pairwise(bounds.tolist()):
                rows = order[first:last].astype(np.int64)
                for name in COLUMNS:
                    file.write(found[name].take(rows).data)
        np.save(folder / BOUNDS, bounds)
        return {"skipped": bad.skipped, "rows": len(order)}

    def _dealt(self, ids: pl.Series, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Of each row the partition, int32, and the user, int64."""
        if not self.text_users:
            return self._partition(ids), ids.to_numpy()
        users, code = encode(ids.cast(pl.String))
        part = self._partition(users)
        bounds, order = by_group(part, self.partitions)
        place = np.empty(len(users), dtype=np.int64)
        place[order] = np.arange(len(users)) - bounds[part[order]]
        users.gather(order).to_frame("user").write_ipc(folder / USERS)
        np.save(folder / USER_BOUNDS, bounds)
        return part[code], place[code]

    def _partition(self, ids: pl.Series) -> np.ndarray:
        hashed = hash_ids(ids)
        return np.remainder(hashed, np.uint64(self.partitions), out=hashed).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A partition's rows in one spill.

    Attributes:
        folder: of the `Spill`.
        first, last: its rows there.
    """

    folder: Path
    first: int
    last: int

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.last - self.first

    def read(self, columns: dict[str, np.ndarray]) -> None:
        """Fills arrays of all `COLUMNS`, in that order, each of ``last - first`` rows."""
        with (self.folder / ROWS).open("rb") as file:
            file.seek(self.first * ROW_BYTES)
            for column in columns.values():
                if file.readinto(column.data) != column.nbytes:
                    raise OSError(f"{self.folder / ROWS} ends before row {self.last}")


def stretches(folders: Sequence[Path], partitions: int) -> list[tuple[Stretch, ...]]:
    """Where each partition's rows are, in the order of the spills."""
    bounds = [np.load(folder / BOUNDS).tolist() for folder in folders]
    return [
        tuple(
            Stretch(folder=folder, first=bound[part], last=bound[part + 1])
            for folder, bound in zip(folders, bounds, strict=True)
            if bound[part] < bound[part + 1]
        )
        for part in range(partitions)
    ]


def pack(interaction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Both in one int8: bit 0 the interaction, above it ``label + 1``."""
    return interaction.astype(np.int8) + ((label + 1) << 1).astype(np.int8)


def unpack(kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interaction, bool, and the label, int8 (-1: no impression)."""
    return (kind & 1).astype(bool), (kind >> 1) - np.int8(1)
