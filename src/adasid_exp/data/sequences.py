"""Batches of histories and what follows them, for SASRec and the generative retrievers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.loader import Bucketed, ByLength, Place, TableDataModule, TableLoader
from adasid_exp.data.splits import Split
from adasid_exp.data.windows import Visible, Windows, WindowTable, visible_rows, windows_before
from adasid_exp.types import SequenceBatch

BUCKET_STEPS = 50
"""Training steps whose rows are sorted by length together: enough that hardly a step is padding."""


class Histories(NamedTuple):
    """Every user's training sequence, one after the other.

    Attributes:
        items: oldest first, int64 ``[total]``.
        offsets: where each user's sequence starts, int64 ``[users + 1]``.
    """

    items: Tensor
    offsets: Tensor


def training_histories(dataset: Dataset, split: Split) -> Histories:
    """The training part as ragged tensors on the CPU, for neighborhood methods."""
    visible = visible_rows(dataset, split.train)
    return Histories(torch.from_numpy(visible.items).long(), torch.from_numpy(visible.first))


def training_windows(first: np.ndarray, history: int) -> tuple[np.ndarray, Windows]:
    """Cuts each user's sequence so that every item but the first is a target exactly once.

    A window of length n reads items ``start .. start+n-1`` and predicts ``start+1 .. start+n``. Cuts are made
    from the end of the sequence: the last windows are full, as in evaluation, the first takes what is left.

    Args:
        first: index of each user's first item, int64 ``[users + 1]``.
        history: longest window.

    Returns:
        The user of each window, int64 ``[windows]``, and the windows, by user, oldest first.
    """
    return windows_within(first[:-1], first[1:], history)


def windows_within(first: np.ndarray, stop: np.ndarray, history: int) -> tuple[np.ndarray, Windows]:
    """As `training_windows`, of sequences with gaps between them: ``first`` to ``stop``, int64 ``[users]`` each."""
    targets = np.maximum(stop - first - 1, 0)
    windows = -(-targets // history)
    user = np.repeat(np.arange(len(targets)), windows)
    place = np.arange(len(user)) - np.repeat(np.cumsum(windows) - windows, windows)
    rest = (targets - (windows - 1) * history)[user]
    length = np.where(place == 0, rest, history)
    start = first[user] + np.where(place == 0, 0, rest + (place - 1) * history)
    return user, Windows(start=start, length=length)


def held_out_rows(dataset: Dataset, visible: Visible, held: np.ndarray) -> np.ndarray:
    """Each user's first row of ``held`` that has a visible row before it, int64 ``[users]``.

    Under leave-one-out that is every held-out row; under a cut in time a user may have several, and only the
    next item is the one a sequence model predicts.
    """
    rows = np.sort(held)
    rows = rows[visible.before[rows] > visible.first[dataset.user[rows]]]
    return rows[np.unique(dataset.user[rows], return_index=True)[1]]


class TrainingTable:
    """Training windows on a device; the target of a step is the next item."""

    def __init__(self, *, user: np.ndarray, windows: Windows, items: np.ndarray, device: torch.device) -> None:
        self._windows = WindowTable(items=items, windows=windows, device=device)
        self._user = torch.from_numpy(user).to(device)

    def __len__(self) -> int:
        return len(self._windows)

    def take(self, rows: np.ndarray) -> SequenceBatch:
        """Windows ``rows`` with a target at every step."""
        index = torch.from_numpy(rows).to(self._user.device)
        items, valid, length = self._windows.take(rows, index, extra=1)
        return SequenceBatch(
            user=self._user.index_select(0, index),
            history=items[:, :-1] * valid,
            length=length,
            target=items[:, 1:] * valid,
        )


class EvaluationTable:
    """Held-out items with the history before each, on a device.

    Args:
        user: of each held-out item, int64 ``[rows]``.
        target: the held-out items, int64 ``[rows]``.
        windows: the histories, in the same order.
        items: what the windows are stretches of, int32.
        device: holds the table.
    """

    def __init__(
        self, *, user: np.ndarray, target: np.ndarray, windows: Windows, items: np.ndarray, device: torch.device
    ) -> None:
        self._windows = WindowTable(items=items, windows=windows, device=device)
        self._user = torch.from_numpy(user).to(device)
        self._target = torch.from_numpy(target).to(device)

    def __len__(self) -> int:
        return len(self._windows)

    def take(self, rows: np.ndarray) -> SequenceBatch:
        """Histories ``rows`` with their held-out items."""
        index = torch.from_numpy(rows).to(self._user.device)
        items, valid, length = self._windows.take(rows, index, extra=0)
        return SequenceBatch(
            user=self._user.index_select(0, index),
            history=items * valid,
            length=length,
            target=self._target.index_select(0, index),
        )


class SequenceDataModule(TableDataModule):
    """Next-item batches of one split.

    Training: see `training_windows`; batches hold windows of like length and are as wide as the longest.
    Validation and test: see `held_out_rows`; the history is the last ``history`` items before the held-out
    one among the training rows, for the test also among the validation rows.

    Args:
        dataset: all interactions.
        split: which rows may be seen.
        batch_size: most rows of a step, over all ranks.
        history: longest history.
        seed: of the epochs' permutations.
    """

    def __init__(self, *, dataset: Dataset, split: Split, batch_size: int, history: int, seed: int) -> None:
        super().__init__()
        self._dataset, self._split = dataset, split
        self._batch_size, self._history, self._seed = batch_size, history, seed

    def histories(self) -> Histories:
        """See `training_histories`."""
        return training_histories(self._dataset, self._split)

    def train_dataloader(self) -> TableLoader[SequenceBatch]:
        """Length-bucketed windows, shuffled by (seed, epoch)."""
        visible, place = visible_rows(self._dataset, self._split.train), self.place
        user, windows = training_windows(visible.first, self._history)
        table = TrainingTable(user=user, windows=windows, items=visible.items, device=place.device)
        order = Bucketed(seed=self._seed, lengths=windows.length, span=BUCKET_STEPS)
        return TableLoader(table=table, order=order, batch_size=self._batch_size, place=place)

    def val_dataloader(self) -> TableLoader[SequenceBatch]:
        """Histories of training rows, shortest first."""
        return self._evaluation(self._split.train, self._split.validation, self.place)

    def test_dataloader(self) -> TableLoader[SequenceBatch]:
        """Histories of training and validation rows, shortest first."""
        mask = self._split.train.copy()
        mask[self._split.validation] = True
        return self._evaluation(mask, self._split.test, self.place)

    def _evaluation(self, mask: np.ndarray, held: np.ndarray, place: Place) -> TableLoader[SequenceBatch]:
        dataset, visible = self._dataset, visible_rows(self._dataset, mask)
        rows = held_out_rows(dataset, visible, held)
        windows = windows_before(dataset, visible, rows, self._history)
        table = EvaluationTable(
            user=dataset.user[rows].astype(np.int64),
            target=dataset.item[rows].astype(np.int64),
            windows=windows,
            items=visible.items,
            device=place.device,
        )
        order = ByLength(lengths=windows.length)
        return TableLoader(table=table, order=order, batch_size=self._batch_size, place=place)
