"""Which rows of prepared logs may be learnt from: a rule that is asked for some users at a time.

Nothing as long as the logs is held; what a rule says of a user depends on that user's rows alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.artifacts.prepared_logs import LogPartition, PreparedLogs
from adasid_exp.types import UserError

NONE = -1
"""The held-out row of a user who has none."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What of some users' sequences is for what, as rows of their partition.

    The history before a held-out row is all of the user's rows before it.

    Attributes:
        first: each user's first row, int64 ``[users]``.
        train: one past the last row that may be learnt from, int64 ``[users]``.
        validation, test: the held-out row, or `NONE`, int64 ``[users]``.
    """

    first: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class LogSplit(ABC):
    """One task's rule."""

    @abstractmethod
    def bounds(self, partition: LogPartition, start: int, stop: int) -> Bounds:
        """The bounds of the users ``start`` to ``stop`` of a partition."""


class LastHeldOut(LogSplit):
    """The last row of each user is the test, the one before it the validation; users with under three only train."""

    def bounds(self, partition: LogPartition, start: int, stop: int) -> Bounds:
        """See `LogSplit.bounds`."""
        offsets = np.asarray(partition.offsets[start : stop + 1])
        first, end = offsets[:-1], offsets[1:]
        enough = end - first >= 3
        return Bounds(
            first=first,
            train=np.where(enough, end - 2, end),
            validation=np.where(enough, end - 2, NONE),
            test=np.where(enough, end - 1, NONE),
        )


@dataclass(frozen=True, kw_only=True)
class Cut(LogSplit):
    """Two points in time, the same for all users; a user's held-out row is her first in the window.

    Users without a row before the window have no history to predict from, and no held-out row.

    Attributes:
        validation_start, test_start: first tick of each window.
    """

    validation_start: int
    test_start: int

    def bounds(self, partition: LogPartition, start: int, stop: int) -> Bounds:
        """See `LogSplit.bounds`."""
        offsets = np.asarray(partition.offsets[start : stop + 1])
        first, end = offsets[:-1], offsets[1:]
        time = np.asarray(partition.timestamp[offsets[0] : offsets[-1]])
        train = _rows_before(time, offsets, self.validation_start)
        test = _rows_before(time, offsets, self.test_start)
        return Bounds(
            first=first,
            train=train,
            validation=np.where((train > first) & (train < test), train, NONE),
            test=np.where((test > first) & (test < end), test, NONE),
        )


def _rows_before(time: np.ndarray, offsets: np.ndarray, tick: int) -> np.ndarray:
    """Each user's first row at or after ``tick``, int64 ``[users]``; ``time`` ascends within a user."""
    before = lengths_to_offsets(time < tick)
    counts = np.diff(before[offsets - offsets[0]])
    return offsets[:-1] + counts


class LogRule(ABC):
    """A split of logs as a config node."""

    @abstractmethod
    def __call__(self, logs: PreparedLogs) -> LogSplit:
        """The rule for these logs."""


@dataclass(frozen=True, kw_only=True)
class LastInteractions(LogRule):
    """The retrieval split of logs as a config node."""

    def __call__(self, logs: PreparedLogs) -> LastHeldOut:
        """See `LastHeldOut`."""
        return LastHeldOut()


@dataclass(frozen=True, kw_only=True)
class PreparedWindows(LogRule):
    """The ranking split of logs as a config node: the windows that `stage=prepare` chose and counted popularity for."""

    def __call__(self, logs: PreparedLogs) -> Cut:
        """See `Cut`.

        Raises:
            UserError: the logs were prepared without windows.
        """
        windows = logs.about["windows"]
        if windows["test_start"] is None:
            raise UserError(f"{logs.folder} holds no impressions; ranking needs events with a label, see docs/logs.md")
        return Cut(validation_start=windows["validation_start"], test_start=windows["test_start"])
