"""The loader of rows that lie on disk: blocks are read whole, some at a time, and shuffled together.

Memory follows the buffer, not the data. The order of an epoch follows from (seed, epoch) alone and the rows of a
step over all ranks do not depend on how many ranks there are, so a position is a step's number here as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol

import numpy as np
import torch

from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.data.loader import (
    Batch,
    BatchOut,
    Bucketed,
    ByLength,
    EpochLoader,
    Order,
    Place,
    Plan,
    Shuffled,
    Table,
    cuts,
)

BLOCK_ORDER = 0x9E3779B9
"""Sets the generator of the blocks' order apart from those of the rows'."""


@dataclass(frozen=True, kw_only=True)
class Held(Generic[BatchOut]):
    """Rows that were read.

    Attributes:
        table: all of them.
        lengths: of their histories, int64 ``[rows]``.
    """

    table: Table[BatchOut]
    lengths: np.ndarray


class Stream(Protocol[BatchOut]):
    """Rows on disk, in blocks."""

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each block, int64 ``[blocks]``."""

    def read(self, blocks: np.ndarray, device: torch.device) -> Held[BatchOut]:
        """The rows of some blocks, in that order, as a table on ``device``."""


class Visit(ABC):
    """In what order an epoch visits blocks, and the rows of those that are held together."""

    @abstractmethod
    def blocks(self, epoch: int, count: int) -> np.ndarray:
        """A permutation of ``count`` blocks, int64."""

    @abstractmethod
    def rows(self, lengths: np.ndarray) -> Order:
        """How rows with histories of ``lengths`` are visited."""


@dataclass(frozen=True, kw_only=True)
class Mixed(Visit):
    """Blocks in random order, and the rows of a buffer too."""

    seed: int

    def blocks(self, epoch: int, count: int) -> np.ndarray:
        """See `Visit.blocks`."""
        return np.random.default_rng([self.seed, epoch, BLOCK_ORDER]).permutation(count)

    def rows(self, lengths: np.ndarray) -> Order:
        """See `Visit.rows`."""
        return Shuffled(seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class MixedByLength(Mixed):
    """As `Mixed`, but rows of like length share a batch.

    Attributes:
        span: steps that are sorted together, see `Bucketed`.
    """

    span: int

    def rows(self, lengths: np.ndarray) -> Order:
        """See `Visit.rows`."""
        return Bucketed(seed=self.seed, lengths=lengths, span=self.span)


@dataclass(frozen=True, kw_only=True)
class AsStored(Visit):
    """Blocks as they lie, the rows of a buffer from short to long: for evaluation."""

    def blocks(self, epoch: int, count: int) -> np.ndarray:
        """See `Visit.blocks`."""
        return np.arange(count, dtype=np.int64)

    def rows(self, lengths: np.ndarray) -> Order:
        """See `Visit.rows`."""
        return ByLength(lengths=lengths)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The blocks of one epoch.

    Attributes:
        order: in which they come, int64 ``[blocks]``.
        ends: rows before each place of that order and after the last, int64 ``[blocks + 1]``.
    """

    order: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Buffer(Generic[BatchOut]):
    """The rows of some consecutive steps.

    Attributes:
        number: of the buffer within its epoch.
        table: its rows, and perhaps others before and after: those of blocks that it shares with its neighbors.
        skip: rows of the table that come before.
        first_row, first_step: of the buffer, within the epoch.
        plan: how its rows and steps are visited.
    """

    number: int
    table: Table[BatchOut]
    skip: int
    first_row: int
    first_step: int
    plan: Plan

    def step(self, position: int) -> int:
        """The step that the epoch visits at ``position``."""
        return self.first_step + int(self.plan.steps[position - self.first_step])

    def take(self, start: int, stop: int) -> BatchOut:
        """The rows at ``start`` to ``stop`` of the epoch."""
        return self.table.take(self.skip + self.plan.rows[start - self.first_row : stop - self.first_row])


class StreamLoader(EpochLoader[Batch]):
    """An `EpochLoader` over rows on disk.

    The epoch's blocks, one after the other in the order of ``visit``, are cut into steps and consecutive steps
    into buffers; the rows of a buffer are visited in an order of their own, see `Visit`. At any time one buffer
    is held, with up to two blocks that reach beyond it.

    Args:
        stream: the rows.
        visit: the order.
        batch_size: most rows of a step, over all ranks.
        buffer: most rows of a buffer; at least one step is held.
        place: device, rank and world size.
    """

    def __init__(self, *, stream: Stream[Batch], visit: Visit, batch_size: int, buffer: int, place: Place) -> None:
        rows = int(stream.sizes.sum())
        super().__init__(rows=rows, batch_size=batch_size, place=place)
        self.stream, self.visit = stream, visit
        self.span = max(1, buffer // batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """See `EpochLoader.batches`."""
        steps, world = len(self), self.place.world
        layout = self._layout(epoch)
        held: Buffer[Batch] | None = None
        for position in range(start, steps):
            if held is None or held.number != position // self.span:
                held = None  # before the next is read: one at a time
                held = self._read(layout, epoch, position // self.span)
            part = held.step(position) * world + self.place.rank
            total = steps * world
            yield held.take(part * self.rows // total, (part + 1) * self.rows // total)

    def _layout(self, epoch: int) -> Layout:
        order = self.visit.blocks(epoch, len(self.stream.sizes))
        return Layout(order=order, ends=lengths_to_offsets(self.stream.sizes[order]))

    def _read(self, layout: Layout, epoch: int, number: int) -> Buffer[Batch]:
        steps = len(self)
        first, last = number * self.span, min((number + 1) * self.span, steps)
        start, stop = (step * self.rows // steps for step in (first, last))
        a = int(np.searchsorted(layout.ends, start, side="right")) - 1
        b = int(np.searchsorted(layout.ends, stop, side="left"))
        read = self.stream.read(layout.order[a:b], self.place.device)
        skip = start - int(layout.ends[a])
        order = self.visit.rows(read.lengths[skip : skip + stop - start])
        return Buffer(
            number=number,
            table=read.table,
            skip=skip,
            first_row=start,
            first_step=first,
            plan=order.plan(epoch * -(-steps // self.span) + number, stop - start, last - first),
        )


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Stretches of partitions, as they lie.

    Attributes:
        partition: number of each block's partition, int64 ``[blocks]``.
        start, stop: its first user or row there and one past the last, int64 ``[blocks]``.
    """

    partition: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.partition)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.partition.tolist(), self.start.tolist(), self.stop.tolist(), strict=True)

    def some(self, numbers: np.ndarray) -> Blocks:
        """The blocks ``numbers``, in that order."""
        return Blocks(partition=self.partition[numbers], start=self.start[numbers], stop=self.stop[numbers])


def blocks_of(sizes: list[int], most: int) -> Blocks:
    """Cuts partitions of ``sizes`` users or rows into near-equal blocks of at most ``most``."""
    parts = [-(-size // most) for size in sizes]
    borders = [cuts(size, count) for size, count in zip(sizes, parts, strict=True)]
    none = np.zeros(0, dtype=np.int64)
    return Blocks(
        partition=np.repeat(np.arange(len(sizes)), parts),
        start=np.concatenate([none, *(each[:-1] for each in borders)]),
        stop=np.concatenate([none, *(each[1:] for each in borders)]),
    )
