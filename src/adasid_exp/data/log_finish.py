"""Last pass over logs: of each user the last interactions, of each impression where its history ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.artifacts.files import link
from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.artifacts.prepared_logs import SCHEMA, USER_ID, PartitionArrays
from adasid_exp.data.log_core import Survivors, save_counts, survivors
from adasid_exp.data.log_gather import SortedPartition
from adasid_exp.data.log_order import lower_bound
from adasid_exp.data.pieces import Piece

PARTITION = "partition"
RECENT = "recent"


@dataclass(frozen=True, kw_only=True)
class Finish(Piece):
    """A partition as it is published, but for the counts of its impressions, and its share of those counts.

    Attributes:
        part: folder of the `SortedPartition`.
        alive: file of a bool array over the catalogue: which items stay.
        minimum: interactions a user needs.
        keep: most interactions of a user that are kept.
        count_start, count_stop: ticks between which interactions are counted.
    """

    part: Path
    alive: Path
    minimum: int
    keep: int
    count_start: int | None
    count_stop: int | None

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        part, alive = SortedPartition.load(self.part), np.load(self.alive)
        left = survivors(part, alive, self.minimum)
        dense = (np.cumsum(alive, dtype=np.int32) - 1).astype(np.int32)
        counted = self._counted(part.timestamp)
        save_counts(folder, RECENT, dense[part.item[counted if isinstance(left.rows, slice) else left.rows & counted]])
        arrays = self._arrays(part, left, dense)
        arrays.save(folder / PARTITION)
        return {"users": len(arrays.user_id), "positive": int(arrays.label.sum())}

    def _counted(self, timestamp: np.ndarray) -> np.ndarray:
        if self.count_start is None or self.count_stop is None:
            return np.zeros(len(timestamp), dtype=bool)
        return (timestamp >= self.count_start) & (timestamp < self.count_stop)

    def _arrays(self, part: SortedPartition, left: Survivors, dense: np.ndarray) -> PartitionArrays:
        rows, offsets = last_rows(part.offsets, left, self.keep)
        timestamp = part.timestamp.take(rows)
        user = np.repeat(np.cumsum(left.users) - 1, np.diff(part.impression_offsets))[left.impressions]
        moment = part.impression_timestamp[left.impressions]
        return PartitionArrays(
            user_id=part.user_ids.filter(pl.Series(left.users)),
            offsets=offsets,
            item=dense.take(part.item.take(rows)),
            timestamp=timestamp,
            impression_user=user.astype(np.int32),
            impression_item=dense[part.impression_item[left.impressions]],
            impression_timestamp=moment,
            impression_count=np.zeros(len(user), dtype=np.int32),
            label=part.label[left.impressions],
            history_end=lower_bound(timestamp, offsets[user], offsets[user + 1], moment),
        )


def last_rows(offsets: np.ndarray, left: Survivors, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each surviving user the last ``keep`` surviving rows, int64, and their offsets."""
    last = offsets if isinstance(left.rows, slice) else lengths_to_offsets(left.rows)[offsets]
    length = np.diff(last)[left.users]
    kept = np.minimum(length, keep)
    starts = lengths_to_offsets(kept)
    rows = np.arange(starts[-1]) + np.repeat(np.cumsum(length) - kept - starts[:-1], kept)
    return rows if isinstance(left.rows, slice) else np.flatnonzero(left.rows)[rows], starts


def assemble(partition: Path, out: Path, recent: np.ndarray) -> None:
    """Publishes a finished partition, with the counts of its impressions' items filled in.

    Args:
        partition: what `Finish` wrote.
        out: the folder to make.
        recent: recent interactions of each item, int32 ``[items]``.
    """
    out.mkdir(parents=True)
    counts = "impression_count"
    for name in [USER_ID, *(f"{array}.npy" for array in SCHEMA if array != counts)]:
        link(partition / name, out / name)
    np.save(out / f"{counts}.npy", recent[np.load(partition / "impression_item.npy", mmap_mode="r")])
