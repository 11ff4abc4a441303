"""Prepared logs as the stages read them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from adasid_exp.artifacts.prepared_logs import PreparedLogs
from adasid_exp.data.log_impressions import LogImpressionDataModule, LogImpressions, Use
from adasid_exp.data.log_sequences import LogSequenceDataModule, UserStream, log_counts, log_histories
from adasid_exp.data.log_splits import Cut, LogSplit
from adasid_exp.data.sequences import Histories
from adasid_exp.data.task_data import Population, TaskData
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

    def population(self) -> Population:
        """Counts are of all interactions, lengths and days of those that were kept."""
        logs, found = self.logs, self.logs.about["statistics"]
        lengths = [np.diff(partition.offsets) for partition in logs.partitions]
        shown, interactions = found["impressions"], found["interactions"]
        return Population(
            counts=logs.counts(),
            lengths=np.concatenate([np.zeros(0, dtype=np.int64), *lengths]),
            statistics={
                "users": logs.users,
                "items": logs.items,
                "interactions": interactions,
                "mean_length": interactions / logs.users,
                "impressions": shown,
                "liked": found["positive_impressions"] / shown if shown else None,
                "density": interactions / (logs.users * logs.items),
            },
            days=_seconds(logs) / 86_400,
        )

    def sizes(self) -> Mapping[str, int]:
        """Interactions that are learnt from; held-out interactions, or impressions where time is cut."""
        stream = UserStream(logs=self.logs, split=self.split)
        train = validation = test = 0
        for block in stream.blocks:
            bounds = stream.bounds_of(block)[2]
            train += int((bounds.train - bounds.first).sum())
            validation += int((bounds.validation >= 0).sum())
            test += int((bounds.test >= 0).sum())
        if isinstance(self.split, Cut):
            shown = LogImpressions(logs=self.logs, split=self.split).survey.sizes.sum(axis=0)
            validation, test = int(shown[Use.VALIDATION]), int(shown[Use.TEST])
        return {"train": train, "validation": validation, "test": test}

    def item_ids(self) -> np.ndarray:
        """See `TaskData.item_ids`."""
        return self.logs.item_ids()

    def catalogue(self) -> pl.DataFrame:
        """See `TaskData.catalogue`."""
        return self.logs.catalogue().collect()

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


def _seconds(logs: PreparedLogs) -> float:
    """From the first kept interaction to the last; a user's rows are in the order of time."""
    ends = []
    for partition in logs.partitions:
        offsets = np.asarray(partition.offsets)
        used = np.diff(offsets) > 0
        for rows in (offsets[:-1][used], offsets[1:][used] - 1):
            ends += [partition.timestamp[rows].min(), partition.timestamp[rows].max()] if len(rows) else []
    return float(max(ends) - min(ends)) / logs.about["ticks_per_second"] if ends else 0.0
