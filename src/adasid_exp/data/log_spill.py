"""First pass over logs: a few shards at a time, dealt to partitions by the hash of the user."""

from __future__ import annotations

from dataclasses import dataclass
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

USERS = "users.arrow"


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

    Files: ``users.arrow`` (distinct raw ids by partition), ``user_bounds.npy`` and ``bounds.npy`` (first user and
    first row of each partition), ``user.npy`` (place among the partition's ids here), ``item.npy``,
    ``timestamp.npy``, ``kind.npy`` (see `pack`).

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
        users, code = encode(events.user.cast(pl.String) if self.text_users else events.user)
        part = (hash_ids(users) % np.uint64(self.partitions)).astype(np.int32)
        user_bounds, user_order = by_group(part, self.partitions)
        bounds, order = by_group(part[code], self.partitions)
        place = np.empty(len(users), dtype=np.int32)
        place[user_order] = np.arange(len(users), dtype=np.int32) - user_bounds[part[user_order]].astype(np.int32)
        users.gather(user_order).to_frame("user").write_ipc(folder / USERS)
        arrays = {"user_bounds": user_bounds, "bounds": bounds, "user": place[code[order]]}
        arrays |= {"item": events.item[order], "timestamp": events.timestamp[order]}
        arrays["kind"] = pack(events.interaction, events.label)[order]
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        return {"skipped": bad.skipped, "rows": len(order)}


def pack(interaction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Both in one int8: bit 0 the interaction, above it ``label + 1``."""
    return interaction.astype(np.int8) + ((label + 1) << 1).astype(np.int8)


def unpack(kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interaction, bool, and the label, int8 (-1: no impression)."""
    return (kind & 1).astype(bool), (kind >> 1) - np.int8(1)
