"""Batches of histories and what follows them, streamed from prepared logs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from adasid_exp.artifacts.prepared_logs import LogPartition, PreparedLogs
from adasid_exp.data.loader import TableDataModule
from adasid_exp.data.log_ranges import Part, copy_ranges, join
from adasid_exp.data.log_splits import Bounds, LogSplit
from adasid_exp.data.log_stream import AsStored, Blocks, Held, MixedByLength, Stream, StreamLoader, Visit, blocks_of
from adasid_exp.data.sequences import BUCKET_STEPS, EvaluationTable, Histories, TrainingTable, windows_within
from adasid_exp.data.windows import Windows
from adasid_exp.types import SequenceBatch

BLOCK_USERS = 4096
"""Users that are read together: a few megabytes."""


def user_blocks(logs: PreparedLogs) -> Blocks:
    """All users, in blocks."""
    return blocks_of([partition.users for partition in logs.partitions], BLOCK_USERS)


class UserStream:
    """Base: what is read of a block follows from the bounds of its users.

    Args:
        logs: the interactions.
        split: which of them may be seen.
    """

    def __init__(self, *, logs: PreparedLogs, split: LogSplit) -> None:
        self.logs, self.split = logs, split
        self.blocks = user_blocks(logs)

    def bounds_of(self, block: tuple[int, int, int]) -> tuple[LogPartition, np.ndarray, Bounds]:
        """The partition of a block (its number, first user, one past the last), the users, their bounds."""
        number, start, stop = block
        partition = self.logs.partitions[number]
        users = np.arange(start, stop, dtype=np.int64) + partition.first_user
        return partition, users, self.split.bounds(partition, start, stop)


class TrainingStream(UserStream):
    """Training windows, see `data.sequences.training_windows`; the order of blocks keeps a user's rows together.

    Args:
        logs: the interactions.
        split: which of them may be learnt from.
        history: longest window.
    """

    def __init__(self, *, logs: PreparedLogs, split: LogSplit, history: int) -> None:
        super().__init__(logs=logs, split=split)
        self.history = history

    @cached_property
    def sizes(self) -> np.ndarray:
        """Windows of each block, int64 ``[blocks]``."""
        return np.array([self._count(block) for block in self.blocks], dtype=np.int64)

    def _count(self, block: tuple[int, int, int]) -> int:
        bounds = self.bounds_of(block)[2]
        return int((-(-np.maximum(bounds.train - bounds.first - 1, 0) // self.history)).sum())

    def read(self, blocks: np.ndarray, device: torch.device) -> Held[SequenceBatch]:
        """See `Stream.read`."""
        part = join([self._part(block) for block in self.blocks.some(blocks)])
        table = TrainingTable(user=part.columns["user"], windows=part.windows, items=part.items, device=device)
        return Held(table=table, lengths=part.windows.length)

    def _part(self, block: tuple[int, int, int]) -> Part:
        partition, users, bounds = self.bounds_of(block)
        copied = copy_ranges(partition.item, bounds.first, bounds.train)
        row, windows = windows_within(bounds.first + copied.shift, bounds.train + copied.shift, self.history)
        return Part(items=copied.items, windows=windows, columns={"user": users[row]})


class HeldOutStream(UserStream):
    """Held-out items with the last ``history`` items before each.

    Args:
        logs: the interactions.
        split: which of them are held out.
        rows: the held-out row of each user, of a block's bounds.
        history: longest history.
    """

    def __init__(
        self, *, logs: PreparedLogs, split: LogSplit, rows: Callable[[Bounds], np.ndarray], history: int
    ) -> None:
        super().__init__(logs=logs, split=split)
        self.rows, self.history = rows, history

    @cached_property
    def sizes(self) -> np.ndarray:
        """Users with a held-out row, of each block, int64 ``[blocks]``."""
        return np.array([int((self.rows(self.bounds_of(block)[2]) >= 0).sum()) for block in self.blocks], np.int64)

    def read(self, blocks: np.ndarray, device: torch.device) -> Held[SequenceBatch]:
        """See `Stream.read`."""
        part = join([self._part(block) for block in self.blocks.some(blocks)])
        table = EvaluationTable(**part.columns, windows=part.windows, items=part.items, device=device)
        return Held(table=table, lengths=part.windows.length)

    def _part(self, block: tuple[int, int, int]) -> Part:
        partition, users, bounds = self.bounds_of(block)
        held = self.rows(bounds)
        has = held >= 0
        row = held[has]
        start = np.maximum(bounds.first[has], row - self.history)
        copied = copy_ranges(partition.item, start, row + 1)
        stop = row + copied.shift
        return Part(
            items=copied.items,
            windows=Windows(start=start + copied.shift, length=row - start),
            columns={"user": users[has], "target": copied.items[stop].astype(np.int64)},
        )


class LogSequenceDataModule(TableDataModule):
    """What `data.sequences.SequenceDataModule` is to a data set, out of prepared logs, a buffer at a time.

    Args:
        logs: the interactions.
        split: which of them may be seen.
        batch_size: most rows of a step, over all ranks.
        history: longest history.
        buffer: training windows that are held and shuffled together.
        held_interactions: most interactions that `histories` gathers.
        seed: of the epochs' order.
    """

    def __init__(
        self,
        *,
        logs: PreparedLogs,
        split: LogSplit,
        batch_size: int,
        history: int,
        buffer: int,
        held_interactions: int,
        seed: int,
    ) -> None:
        super().__init__()
        self._logs, self._split = logs, split
        self._batch_size, self._history, self._seed = batch_size, history, seed
        self._buffer, self._held = buffer, held_interactions

    def histories(self) -> Histories:
        """See `log_histories`."""
        return log_histories(self._logs, self._split, self._held, self._seed)

    def train_dataloader(self) -> StreamLoader[SequenceBatch]:
        """Windows of like length together, shuffled by (seed, epoch)."""
        stream = TrainingStream(logs=self._logs, split=self._split, history=self._history)
        return self._loader(stream, MixedByLength(seed=self._seed, span=BUCKET_STEPS))

    def val_dataloader(self) -> StreamLoader[SequenceBatch]:
        """Each user's validation item."""
        return self._evaluation(lambda bounds: bounds.validation)

    def test_dataloader(self) -> StreamLoader[SequenceBatch]:
        """Each user's test item; the history shows the validation item too."""
        return self._evaluation(lambda bounds: bounds.test)

    def _evaluation(self, rows: Callable[[Bounds], np.ndarray]) -> StreamLoader[SequenceBatch]:
        stream = HeldOutStream(logs=self._logs, split=self._split, rows=rows, history=self._history)
        return self._loader(stream, AsStored())

    def _loader(self, stream: Stream[SequenceBatch], visit: Visit) -> StreamLoader[SequenceBatch]:
        return StreamLoader(
            stream=stream, visit=visit, batch_size=self._batch_size, buffer=self._buffer, place=self.place
        )


def log_histories(logs: PreparedLogs, split: LogSplit, most: int, seed: int) -> Histories:
    """The training part as ragged tensors on the CPU, of all users or of as many as ``most`` interactions allow.

    Users are taken by blocks in an order that ``seed`` draws until the next block would not fit, and then laid in
    the order of the logs.
    """
    stream = UserStream(logs=logs, split=split)
    sizes = np.array([int(_training_lengths(stream, block).sum()) for block in stream.blocks], dtype=np.int64)
    chosen = stream.blocks.some(_that_fit(sizes, most, seed))
    none = np.zeros(1, dtype=np.int64)
    ends = np.cumsum(np.concatenate([none, *(_training_lengths(stream, block) for block in chosen)]))
    items = np.concatenate([none[:0], *(_training_items(stream, block) for block in chosen)])
    return Histories(torch.from_numpy(items), torch.from_numpy(ends))


def _that_fit(sizes: np.ndarray, most: int, seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(len(sizes))
    return np.sort(order[np.cumsum(sizes[order]) <= most])


def _training_lengths(stream: UserStream, block: tuple[int, int, int]) -> np.ndarray:
    bounds = stream.bounds_of(block)[2]
    return bounds.train - bounds.first


def _training_items(stream: UserStream, block: tuple[int, int, int]) -> np.ndarray:
    partition, _, bounds = stream.bounds_of(block)
    copied = copy_ranges(partition.item, bounds.first, bounds.train)
    length = bounds.train - bounds.first
    before = np.cumsum(length) - length
    rows = np.arange(int(length.sum())) + np.repeat(bounds.first + copied.shift - before, length)
    return copied.items[rows]


def log_counts(logs: PreparedLogs, split: LogSplit) -> np.ndarray:
    """Interactions of each item in the training part of the kept rows, int64 ``[items]``."""
    stream = UserStream(logs=logs, split=split)
    counts = np.zeros(logs.items, dtype=np.int64)
    for block in stream.blocks:
        np.add.at(counts, _training_items(stream, block), 1)
    return counts
