"""Batches of labelled impressions, streamed from prepared logs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import torch

from adasid_exp.artifacts.prepared_logs import LogPartition, PreparedLogs
from adasid_exp.data.impressions import ImpressionTable
from adasid_exp.data.loader import TableDataModule
from adasid_exp.data.log_ranges import Part, copy_ranges, join
from adasid_exp.data.log_splits import Cut
from adasid_exp.data.log_stream import AsStored, Held, Mixed, StreamLoader, Visit, blocks_of
from adasid_exp.data.windows import Windows
from adasid_exp.types import ImpressionBatch

BLOCK_ROWS = 1 << 15
"""Impressions that are read together."""


class Use(IntEnum):
    """The parts that a cut in time makes of impressions."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What one pass over the impressions finds.

    Attributes:
        sizes: impressions of each use in each block, int64 ``[blocks, uses]``.
        known: whether a user has an impression in the training part, bool ``[users]``.
    """

    sizes: np.ndarray
    known: np.ndarray


class LogImpressions:
    """All impressions of prepared logs, cut once in time.

    Args:
        logs: impressions and interactions.
        split: the cut.
    """

    def __init__(self, *, logs: PreparedLogs, split: Cut) -> None:
        self.logs, self.split = logs, split
        self.blocks = blocks_of([partition.impressions for partition in logs.partitions], BLOCK_ROWS)

    def use(self, time: np.ndarray) -> np.ndarray:
        """The `Use` of impressions at ticks ``time``, int64."""
        starts = np.array([self.split.validation_start, self.split.test_start])
        return np.searchsorted(starts, time, side="right")

    @cached_property
    def survey(self) -> Survey:
        """One pass over users and times."""
        sizes = np.zeros((len(self.blocks), len(Use)), dtype=np.int64)
        known = np.zeros(self.logs.users, dtype=bool)
        for number, (at, start, stop) in enumerate(self.blocks):
            partition = self.logs.partitions[at]
            use = self.use(partition.impression_timestamp[start:stop])
            sizes[number] = np.bincount(use, minlength=len(Use))
            known[partition.impression_user[start:stop][use == Use.TRAIN] + partition.first_user] = True
        return Survey(sizes=sizes, known=known)


class ImpressionStream:
    """The impressions of one use, each with the user's last ``history`` items of the training part before it.

    Args:
        impressions: all of them.
        use: which to hand out.
        history: longest history.
    """

    def __init__(self, *, impressions: LogImpressions, use: Use, history: int) -> None:
        self.impressions, self.chosen, self.history = impressions, use, history

    @property
    def sizes(self) -> np.ndarray:
        """Impressions of each block, int64 ``[blocks]``."""
        return self.impressions.survey.sizes[:, self.chosen]

    def read(self, blocks: np.ndarray, device: torch.device) -> Held[ImpressionBatch]:
        """See `Stream.read`."""
        part = join([self._part(block) for block in self.impressions.blocks.some(blocks)])
        table = ImpressionTable(**part.columns, windows=part.windows, items=part.items, device=device)
        return Held(table=table, lengths=part.windows.length)

    def _part(self, block: tuple[int, int, int]) -> Part:
        at, start, stop = block
        partition = self.impressions.logs.partitions[at]
        row = start + np.flatnonzero(self.impressions.use(partition.impression_timestamp[start:stop]) == self.chosen)
        user = np.asarray(partition.impression_user[start:stop])[row - start].astype(np.int64)
        columns = {
            "user": self._index(user + partition.first_user),
            "item": partition.impression_item[start:stop][row - start].astype(np.int64),
            "label": partition.label[start:stop][row - start].astype(np.float32),
        }
        end = partition.history_end[start:stop][row - start]
        items, windows = self._histories(partition, user, end)
        return Part(items=items, windows=windows, columns=columns)

    def _index(self, user: np.ndarray) -> np.ndarray:
        """See `data.impressions.user_index`."""
        known = self.impressions.survey.known
        return np.where(known[user], user, user + len(known))

    def _histories(self, partition: LogPartition, user: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, Windows]:
        """Windows before ``end``, of the training part; ``user`` ascends, and so does ``end`` within a user."""
        group = np.flatnonzero(np.diff(user, prepend=-1))  # the first row of each user
        low, high = (int(user[0]), int(user[-1]) + 1) if len(user) else (0, 0)
        bounds = self.impressions.split.bounds(partition, low, high)
        last = np.minimum(end, bounds.train[user - low])
        start = np.maximum(bounds.first[user - low], last - self.history)
        # Ends ascend within a user, so her first window starts first and her last one stops last.
        borders = np.append(group[1:], len(user)) - 1
        copied = copy_ranges(partition.item, start[group], last[borders[: len(group)]])
        shift = np.repeat(copied.shift, np.diff(np.append(group, len(user))))
        return copied.items, Windows(start=start + shift, length=last - start)


class LogImpressionDataModule(TableDataModule):
    """What `data.impressions.ImpressionDataModule` is to a data set, out of prepared logs, a buffer at a time.

    Args:
        logs: impressions and interactions.
        split: the cut in time.
        batch_size: most rows of a step, over all ranks.
        history: longest history.
        buffer: impressions that are held and shuffled together.
        seed: of the epochs' order.
    """

    def __init__(
        self, *, logs: PreparedLogs, split: Cut, batch_size: int, history: int, buffer: int, seed: int
    ) -> None:
        super().__init__()
        self.impressions = LogImpressions(logs=logs, split=split)
        self._batch_size, self._history, self._buffer, self._seed = batch_size, history, buffer, seed

    def train_dataloader(self) -> StreamLoader[ImpressionBatch]:
        """Training impressions, shuffled by (seed, epoch)."""
        return self._loader(Use.TRAIN, Mixed(seed=self._seed))

    def val_dataloader(self) -> StreamLoader[ImpressionBatch]:
        """Validation impressions."""
        return self._loader(Use.VALIDATION, AsStored())

    def test_dataloader(self) -> StreamLoader[ImpressionBatch]:
        """Test impressions."""
        return self._loader(Use.TEST, AsStored())

    def _loader(self, use: Use, visit: Visit) -> StreamLoader[ImpressionBatch]:
        stream = ImpressionStream(impressions=self.impressions, use=use, history=self._history)
        return StreamLoader(
            stream=stream, visit=visit, batch_size=self._batch_size, buffer=self._buffer, place=self.place
        )
