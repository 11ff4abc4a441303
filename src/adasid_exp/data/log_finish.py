"""Last pass over logs: of each user the last interactions, of each impression where its history ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.artifacts.files import link, mapped
from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.artifacts.prepared_logs import SCHEMA, USER_ID, PartitionArrays
from adasid_exp.data.log_core import Survivors, count_all, save_counts, survivors
from adasid_exp.data.log_gather import SortedPartition, Spilled
from adasid_exp.data.log_items import open_catalogue
from adasid_exp.data.log_order import lower_bound, others
from adasid_exp.data.pieces import Piece

PARTITION, RECENT = "partition", "recent"
OLDER_ITEM, OLDER_TIMESTAMP = "older_item.npy", "older_timestamp.npy"


@dataclass(frozen=True, kw_only=True)
class Span:
    """Ticks between which interactions are counted.

    Attributes:
        start, stop: the first tick, and the first behind the last; None: nothing is counted.
    """

    start: int | None
    stop: int | None

    def covers(self, timestamp: np.ndarray) -> np.ndarray:
        """Bool ``[rows]``."""
        if self.start is None or self.stop is None:
            return np.zeros(len(timestamp), dtype=bool)
        return (timestamp >= self.start) & (timestamp < self.stop)


@dataclass(frozen=True, kw_only=True)
class Finish(Piece):
    """A partition as it is published, but for the counts of its impressions, and its share of those counts.

    Attributes:
        part: folder of the `SortedPartition`.
        alive: file of a bool array over the catalogue: which items stay.
        minimum: interactions a user needs.
        keep: most interactions of a user that are kept.
        counted: when interactions count as recent.
    """

    part: Path
    alive: Path
    minimum: int
    keep: int
    counted: Span

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        part, alive = SortedPartition.load(self.part), np.load(self.alive)
        left, dense = survivors(part, alive, self.minimum), dense_index(alive)
        recent = self.counted.covers(part.timestamp)
        save_counts(folder, RECENT, dense[part.item[recent if isinstance(left.rows, slice) else left.rows & recent]])
        arrays = published(part, left, dense, last_rows(part.offsets, left, self.keep))
        arrays.save(folder / PARTITION)
        return {"positive": int(arrays.label.sum())}


@dataclass(frozen=True, kw_only=True)
class Settle(Piece):
    """A partition of logs that lose nobody: sorted, counted and as it is published in one go.

    Files: those of `Census`, ``partition/`` as of `Finish`, and item (as published) and timestamp of the
    interactions that are not kept, ``older_item.npy`` and ``older_timestamp.npy``.

    Attributes:
        spilled: the rows.
        catalogue: folder of the `CatalogueIds`.
        keep: most interactions of a user that are kept.
        ticks_per_second: of the timestamps.
    """

    spilled: Spilled
    catalogue: Path
    keep: int
    ticks_per_second: int

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        part, repeated = self.spilled.sorted()
        used = open_catalogue(self.catalogue).used
        left, dense = survivors(part, used, 0), dense_index(used)
        sizes = count_all(folder, part, left, self.ticks_per_second)
        kept = last_rows(part.offsets, left, self.keep)
        arrays = published(part, left, dense, kept)
        arrays.save(folder / PARTITION)
        older = others(kept.rows, len(part.item))
        np.save(folder / OLDER_ITEM, dense[part.item[older]])
        np.save(folder / OLDER_TIMESTAMP, part.timestamp[older])
        return {"repeated": repeated, "positive": int(arrays.label.sum()), **sizes}


@dataclass(frozen=True, kw_only=True)
class Recent(Piece):
    """Counts of the recent interactions of a partition that `Settle` made.

    Attributes:
        settled: its folder.
        counted: when interactions count as recent.
    """

    settled: Path
    counted: Span

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        kept, older = self.settled / PARTITION, self.settled
        files = [(kept / "item.npy", kept / "timestamp.npy"), (older / OLDER_ITEM, older / OLDER_TIMESTAMP)]
        items = [mapped(item)[self.counted.covers(mapped(timestamp))] for item, timestamp in files]
        save_counts(folder, RECENT, np.concatenate(items))
        return {}


def dense_index(alive: np.ndarray) -> np.ndarray:
    """The number of each item among those that stay, int32 ``[items]``."""
    return (np.cumsum(alive, dtype=np.int32) - 1).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Interactions that are kept.

    Attributes:
        rows: in the `SortedPartition`, int64.
        offsets: of the surviving users, int64.
    """

    rows: np.ndarray
    offsets: np.ndarray


def last_rows(offsets: np.ndarray, left: Survivors, keep: int) -> Kept:
    """Of each surviving user the last ``keep`` surviving rows."""
    last = offsets if isinstance(left.rows, slice) else lengths_to_offsets(left.rows)[offsets]
    length = np.diff(last)[left.users]
    kept = np.minimum(length, keep)
    starts = lengths_to_offsets(kept)
    rows = np.arange(starts[-1]) + np.repeat(np.cumsum(length) - kept - starts[:-1], kept)
    return Kept(rows=rows if isinstance(left.rows, slice) else np.flatnonzero(left.rows)[rows], offsets=starts)


def published(part: SortedPartition, left: Survivors, dense: np.ndarray, kept: Kept) -> PartitionArrays:
    """The partition's arrays, but for the counts of its impressions."""
    timestamp = part.timestamp.take(kept.rows)
    user = np.repeat(np.cumsum(left.users) - 1, np.diff(part.impression_offsets))[left.impressions]
    moment = part.impression_timestamp[left.impressions]
    return PartitionArrays(
        user_id=part.user_ids.filter(pl.Series(left.users)),
        offsets=kept.offsets,
        item=dense.take(part.item.take(kept.rows)),
        timestamp=timestamp,
        impression_user=user.astype(np.int32),
        impression_item=dense[part.impression_item[left.impressions]],
        impression_timestamp=moment,
        impression_count=np.zeros(len(user), dtype=np.int32),
        label=part.label[left.impressions],
        history_end=lower_bound(timestamp, kept.offsets[user], kept.offsets[user + 1], moment),
    )


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
