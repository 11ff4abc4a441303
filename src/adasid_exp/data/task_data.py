"""What the stages read of prepared data for one downstream task, whatever form the data have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.impressions import ImpressionDataModule
from adasid_exp.data.loader import TableDataModule
from adasid_exp.data.sequences import Histories, SequenceDataModule, training_histories
from adasid_exp.data.splits import Split, training_counts


@dataclass(frozen=True, kw_only=True)
class Population:
    """What there is to say of data before they are split.

    Attributes:
        counts: interactions of each item, int64 ``[items]``.
        lengths: interactions of each user, int64 ``[users]``.
        statistics: figures by name, see `DatasetStatistics`; None where the data do not tell.
        days: from the first interaction to the last.
    """

    counts: np.ndarray
    lengths: np.ndarray
    statistics: Mapping[str, float | None]
    days: float


class TaskData(ABC):
    """Data and the split of one task; nothing here shows a held-out row but the evaluation loaders.

    Attributes:
        items, users: how many there are.
        unused: users or rows that fell outside the split, by reason.
    """

    items: int
    users: int
    unused: Mapping[str, int]

    @abstractmethod
    def population(self) -> Population:
        """See `Population`."""

    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Rows of ``train``, ``validation`` and ``test``."""

    @abstractmethod
    def item_ids(self) -> np.ndarray:
        """Raw id of each item, str ``[items]``."""

    @abstractmethod
    def catalogue(self) -> pl.DataFrame:
        """One row an item in index order: ``item_id`` and what the source knows of it."""

    @abstractmethod
    def counts(self) -> np.ndarray:
        """Interactions of each item in the training part, int64 ``[items]``."""

    @abstractmethod
    def popularity(self) -> np.ndarray:
        """What head and tail of the catalogue are told by in ranking, int64 ``[items]``."""

    @abstractmethod
    def histories(self) -> Histories:
        """Users' sequences of the training part."""

    @abstractmethod
    def held_out(self) -> np.ndarray:
        """The test item of each user (0 of a user without one), int64 ``[users]``."""

    @abstractmethod
    def sequences(self, *, batch_size: int) -> TableDataModule:
        """Batches of histories and what follows them."""

    @abstractmethod
    def impressions(self, *, batch_size: int) -> TableDataModule:
        """Batches of labelled impressions."""


class TableTask(TaskData):
    """A data set that is held in memory.

    Args:
        dataset: all interactions.
        split: which rows may be seen.
        history: longest history.
        seed: of the epochs' order.
    """

    def __init__(self, *, dataset: Dataset, split: Split, history: int, seed: int) -> None:
        self.dataset, self.split = dataset, split
        self.history, self.seed = history, seed
        self.items, self.users, self.unused = len(dataset.item_ids), len(dataset.user_ids), split.unused

    def population(self) -> Population:
        """See `Population`."""
        time = self.dataset.timestamp
        return Population(
            counts=self.dataset.counts,
            lengths=np.diff(self.dataset.offsets),
            statistics=asdict(self.dataset.statistics()),
            days=float(np.ptp(time) / 86_400) if len(time) else 0.0,
        )

    def sizes(self) -> Mapping[str, int]:
        """Interactions."""
        split = self.split
        return {"train": int(split.train.sum()), "validation": len(split.validation), "test": len(split.test)}

    def item_ids(self) -> np.ndarray:
        """See `TaskData.item_ids`."""
        return self.dataset.item_ids

    def catalogue(self) -> pl.DataFrame:
        """See `TaskData.catalogue`."""
        return self.dataset.items

    def counts(self) -> np.ndarray:
        """See `TaskData.counts`."""
        return training_counts(self.dataset, self.split)

    def popularity(self) -> np.ndarray:
        """The training counts: such data have no impressions but the labelled rows."""
        return self.counts()

    def histories(self) -> Histories:
        """Those of all users."""
        return training_histories(self.dataset, self.split)

    def held_out(self) -> np.ndarray:
        """See `TaskData.held_out`."""
        found = np.zeros(self.users, dtype=np.int64)
        found[self.dataset.user[self.split.test]] = self.dataset.item[self.split.test]
        return found

    def sequences(self, *, batch_size: int) -> SequenceDataModule:
        """See `SequenceDataModule`."""
        return SequenceDataModule(
            dataset=self.dataset, split=self.split, batch_size=batch_size, history=self.history, seed=self.seed
        )

    def impressions(self, *, batch_size: int) -> ImpressionDataModule:
        """See `ImpressionDataModule`."""
        return ImpressionDataModule(
            dataset=self.dataset, split=self.split, batch_size=batch_size, history=self.history, seed=self.seed
        )
