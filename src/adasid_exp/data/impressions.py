"""Batches of labelled impressions for the rankers."""

from __future__ import annotations

import numpy as np
import torch

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.loader import InOrder, Order, Shuffled, TableDataModule, TableLoader
from adasid_exp.data.splits import Split
from adasid_exp.data.windows import Windows, WindowTable, visible_rows, windows_before
from adasid_exp.types import ImpressionBatch


def training_impressions(dataset: Dataset, split: Split) -> np.ndarray:
    """The labelled rows of the training part, int64."""
    return np.flatnonzero(split.train & (dataset.liked >= 0))


def user_index(dataset: Dataset, split: Split) -> np.ndarray:
    """Index of each user, int64 ``[users]``: her own number, plus ``users`` if she has no training impression.

    Unknown users stay apart, since GAUC counts per user; a ranker gives all of them the same parameters. A user
    who is only in unlabelled training rows is unknown too: a table row that no training impression ever reads
    stays at its random start. Such a user still has a history.
    """
    users = len(dataset.user_ids)
    index = np.arange(users, dtype=np.int64) + users
    known = dataset.user[training_impressions(dataset, split)]
    index[known] = known
    return index


class ImpressionTable:
    """Impressions on a device.

    Args:
        user: see `user_index`, int64 ``[rows]``.
        item: int64 ``[rows]``.
        label: 1 liked, 0 not, float32 ``[rows]``.
        windows: the histories, in the same order.
        items: what the windows are stretches of, int32.
        device: holds the table.
    """

    def __init__(
        self,
        *,
        user: np.ndarray,
        item: np.ndarray,
        label: np.ndarray,
        windows: Windows,
        items: np.ndarray,
        device: torch.device,
    ) -> None:
        self._windows = WindowTable(items=items, windows=windows, device=device)
        self._user, self._item, self._label = (torch.from_numpy(each).to(device) for each in (user, item, label))

    def __len__(self) -> int:
        return len(self._windows)

    def take(self, rows: np.ndarray) -> ImpressionBatch:
        """Impressions ``rows``; histories as wide as the longest of them, at least 1."""
        index = torch.from_numpy(rows).to(self._user.device)
        items, valid, length = self._windows.take(rows, index, extra=0)
        return ImpressionBatch(
            user=self._user.index_select(0, index),
            item=self._item.index_select(0, index),
            history=items * valid,
            length=length,
            label=self._label.index_select(0, index),
        )


class ImpressionDataModule(TableDataModule):
    """Labelled impressions of one split.

    A history holds the user's last ``history`` items before the impression, out of the training part alone
    (labelled or not): what validation and test rows say is never shown, not even to later test rows.

    Args:
        dataset: all interactions.
        split: as `splits.temporal` makes it.
        batch_size: most rows of a step, over all ranks.
        history: longest history.
        seed: of the epochs' permutations.
    """

    def __init__(self, *, dataset: Dataset, split: Split, batch_size: int, history: int, seed: int) -> None:
        super().__init__()
        self._dataset, self._split = dataset, split
        self._batch_size, self._history, self._seed = batch_size, history, seed

    def train_dataloader(self) -> TableLoader[ImpressionBatch]:
        """Training impressions, shuffled by (seed, epoch)."""
        return self._loader(training_impressions(self._dataset, self._split), Shuffled(seed=self._seed))

    def val_dataloader(self) -> TableLoader[ImpressionBatch]:
        """Validation impressions in the order of time."""
        return self._loader(self._split.validation, InOrder())

    def test_dataloader(self) -> TableLoader[ImpressionBatch]:
        """Test impressions in the order of time."""
        return self._loader(self._split.test, InOrder())

    def _loader(self, rows: np.ndarray, order: Order) -> TableLoader[ImpressionBatch]:
        place = self.place
        table = impression_table(self._dataset, self._split, rows, self._history, place.device)
        return TableLoader(table=table, order=order, batch_size=self._batch_size, place=place)


def impression_table(
    dataset: Dataset, split: Split, rows: np.ndarray, history: int, device: torch.device
) -> ImpressionTable:
    """The impressions ``rows`` (int64) of a data set, with histories of at most ``history`` training rows."""
    visible = visible_rows(dataset, split.train)
    return ImpressionTable(
        user=user_index(dataset, split)[dataset.user[rows]],
        item=dataset.item[rows].astype(np.int64),
        label=dataset.liked[rows].astype(np.float32),
        windows=windows_before(dataset, visible, rows, history),
        items=visible.items,
        device=device,
    )
