"""Raw ids of items to their rows: whole numbers by a hash table that lies in files, text by a join."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from adasid_exp.artifacts.files import mapped
from adasid_exp.data.log_ids import encode, mixed

KEYS, IDS, SLOTS = "keys.parquet", "ids.npy", "slots.npy"
ABSENT = -1
SPARE = 3
"""Slots an item, at least; fewer make longer searches, more fall out of the processor's cache."""
BLOCK = 1 << 16
"""Ids that are looked up at once: what belongs to them stays in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class NumberTable:
    """A hash table with open addressing; all rows that are asked for are probed together.

    A third of the slots at most is taken, so that five rows of six are found at their first slot. The arrays are
    mapped: processes on one machine share them, and nobody builds the table twice.

    Attributes:
        ids: by row, `ABSENT` where the row is not to be found; one `ABSENT` behind the last. int64 ``[rows + 1]``.
        slots: the row that took each slot, `ABSENT` where it is free, int32 ``[a power of two]``.
    """

    ids: np.ndarray
    slots: np.ndarray

    @classmethod
    def of(cls, ids: np.ndarray, used: np.ndarray) -> Self:
        """The table of those ``ids`` (int64 from 0, distinct) that are ``used`` (bool)."""
        table = cls(
            ids=np.append(np.where(used, ids, ABSENT), ABSENT),
            slots=np.full(1 << (SPARE * max(1, len(ids))).bit_length(), ABSENT, dtype=np.int32),
        )
        rows = np.flatnonzero(used).astype(np.int32)
        slot = table._first(ids[rows])
        while len(rows):
            free = table.slots[slot] == ABSENT
            table.slots[slot[free]] = rows[free]
            beaten = table.slots[slot] != rows
            rows, slot = rows[beaten], table._next(slot[beaten])
        return table

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Maps what `save` wrote."""
        return cls(ids=mapped(folder / IDS), slots=mapped(folder / SLOTS))

    def save(self, folder: Path) -> None:
        """Writes both arrays."""
        np.save(folder / IDS, self.ids)
        np.save(folder / SLOTS, self.slots)

    def rows_of(self, ids: pl.Series) -> np.ndarray:
        """The row of each id, `ABSENT` where there is none, int32."""
        wanted, rows = ids.to_numpy(), np.empty(len(ids), dtype=np.int32)
        for first in range(0, len(ids), BLOCK):
            rows[first : first + BLOCK] = self._probed(wanted[first : first + BLOCK])
        return rows

    def _probed(self, wanted: np.ndarray) -> np.ndarray:
        slot = self._first(wanted)
        row = self.slots.take(slot)
        open_ = np.flatnonzero(self.ids.take(row) != wanted)
        slot, wanted = slot.take(open_), wanted.take(open_)
        while len(open_):
            slot = self._next(slot)
            found = self.slots.take(slot)
            row[open_] = found
            on = np.flatnonzero((self.ids.take(found) != wanted) & (found != ABSENT))
            open_, slot, wanted = open_.take(on), slot.take(on), wanted.take(on)
        return row

    def _first(self, ids: np.ndarray) -> np.ndarray:
        bits = len(self.slots).bit_length() - 1
        return (mixed(ids.view(np.uint64)) >> np.uint64(64 - bits)).view(np.int64)

    def _next(self, slot: np.ndarray) -> np.ndarray:
        return (slot + 1) & (len(self.slots) - 1)


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """Ids and rows side by side.

    Attributes:
        keys: ``id`` and ``index`` int32, one row an item.
    """

    keys: pl.DataFrame

    @classmethod
    def of(cls, ids: pl.Series, used: np.ndarray) -> Self:
        """The table of those ``ids`` that are ``used``."""
        keys = ids.to_frame("id").with_row_index("index").filter(pl.Series(used))
        return cls(keys=keys.select("id", pl.col("index").cast(pl.Int32)))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote."""
        return cls(keys=pl.read_parquet(folder / KEYS))

    def save(self, folder: Path) -> None:
        """Writes the pairs."""
        self.keys.write_parquet(folder / KEYS)

    def rows_of(self, ids: pl.Series) -> np.ndarray:
        """The row of each id, `ABSENT` where there is none, int32."""
        distinct, code = encode(ids)
        found = pl.DataFrame({"id": distinct}).join(self.keys, on="id", how="left", maintain_order="left")
        return found["index"].fill_null(ABSENT).to_numpy().take(code)
