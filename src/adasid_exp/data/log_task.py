"""Prepared logs as the stages read them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adasid_exp.artifacts.prepared_logs import PreparedLogs
from adasid_exp.data.log_impressions import LogImpressionDataModule
from adasid_exp.data.log_sequences import LogSequenceDataModule, UserStream, log_counts, log_histories
from adasid_exp.data.log_splits import Cut, LogSplit
from adasid_exp.data.sequences import Histories
from adasid_exp.data.task_data import TaskData
from adasid_exp.types import UserError


class LogTask(TaskData):
    """Memory-mapped logs; see docs/logs.md for what each method holds.

    Args:
        logs: as `stage=prepare` made them.
        split: which rows may be seen.
        history: longest history.
        buffer: rows that are held and shuffled together.
        held_interactions: most interactions that `histories` gathers.
        seed: of the epochs' order.
    """

    def __init__(
        self, *, logs: PreparedLogs, split: LogSplit, history: int, buffer: int, held_interactions: int, seed: int
    ) -> None:
        self.logs, self.split = logs, split
        self.history, self.buffer, self.held_interactions, self.seed = history, buffer, held_interactions, seed
        self.items, self.users = logs.items, logs.users
        self.unused: Mapping[str, int] = {}

    def item_ids(self) -> np.ndarray:
        """See `TaskData.item_ids`."""
        return self.logs.item_ids()

    def counts(self) -> np.ndarray:
        """See `log_counts`."""
        return log_counts(self.logs, self.split)

    def popularity(self) -> np.ndarray:
        """Interactions in the days before the test window, of items that have impressions (0 of others)."""
        found = np.zeros(self.items, dtype=np.int64)
        for partition in self.logs.partitions:
            found[partition.impression_item] = partition.impression_count
        return found

    def histories(self) -> Histories:
        """See `log_histories`."""
        return log_histories(self.logs, self.split, self.held_interactions, self.seed)

    def held_out(self) -> np.ndarray:
        """See `TaskData.held_out`."""
        found = np.zeros(self.users, dtype=np.int64)
        stream = UserStream(logs=self.logs, split=self.split)
        for block in stream.blocks:
            partition, users, bounds = stream.bounds_of(block)
            has = bounds.test >= 0
            found[users[has]] = partition.item[bounds.test[has]]
        return found

    def sequences(self, *, batch_size: int) -> LogSequenceDataModule:
        """See `LogSequenceDataModule`."""
        return LogSequenceDataModule(
            logs=self.logs,
            split=self.split,
            batch_size=batch_size,
            history=self.history,
            buffer=self.buffer,
            held_interactions=self.held_interactions,
            seed=self.seed,
        )

    def impressions(self, *, batch_size: int) -> LogImpressionDataModule:
        """See `LogImpressionDataModule`.

        Raises:
            UserError: the split is no cut in time.
        """
        if not isinstance(self.split, Cut):
            raise UserError(
                "impressions of logs are cut in time: splits.ranking must be data.log_splits.PreparedWindows"
            )
        return LogImpressionDataModule(
            logs=self.logs,
            split=self.split,
            batch_size=batch_size,
            history=self.history,
            buffer=self.buffer,
            seed=self.seed,
        )
