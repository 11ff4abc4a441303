"""Which rows may be learnt from and which are held out, once for each downstream task.

A split names rows of the data set; nothing is copied. Everything that learns (counts, standardization,
behavior embeddings, training batches) is derived from ``Split.train`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.types import UserError


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows of a data set by their use.

    Attributes:
        train: whether a row may be learnt from, bool ``[rows]``.
        validation: held-out rows that choose models, int64, in the order of the split.
        test: held-out rows that are only reported, int64.
        unused: how many users or rows fell outside, by reason.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    unused: Mapping[str, int]


def leave_one_out(dataset: Dataset) -> Split:
    """Holds out each user's last interaction (test) and the one before it (validation).

    Users with fewer than three interactions have nothing left to predict from: they are counted
    (``users_without_holdout``) and kept for training only.
    """
    lengths = np.diff(dataset.offsets)
    test = (dataset.offsets[1:] - 1)[lengths >= 3].astype(np.int64)
    train = np.ones(len(dataset.item), dtype=bool)
    train[test] = False
    train[test - 1] = False
    short = int(((lengths > 0) & (lengths < 3)).sum())
    return Split(train=train, validation=test - 1, test=test, unused={"users_without_holdout": short})


def chronological(dataset: Dataset) -> np.ndarray:
    """All rows by (timestamp, user, position), int64 ``[rows]``."""
    return np.argsort(dataset.timestamp, kind="stable")  # rows already lie by (user, position)


def temporal(dataset: Dataset, *, test_share: float, validation_share: float) -> Split:
    """Cuts the labelled rows once in time, for all users alike (paper section 4.1: 90/10).

    The last ``test_share`` of the labelled rows are the test part and the last ``validation_share`` of the
    others the validation part, by count. ``train`` holds every row, labelled or not, strictly before the
    first validation row. Unlabelled rows are no impressions: they are counted, and those behind the cut are
    used by nobody.

    Raises:
        UserError: where too few rows are labelled to fill the three parts.
    """
    order = chronological(dataset)
    labelled = order[dataset.liked[order] >= 0]
    held, chosen = _part_sizes(len(labelled), test_share, validation_share)
    first_test = len(labelled) - held
    validation = labelled[first_test - chosen : first_test]
    train = np.zeros(len(order), dtype=bool)
    train[order[: int(np.argmax(order == validation[0]))]] = True
    unlabelled = dataset.liked < 0
    unused = {
        "unlabelled_rows": int(unlabelled.sum()),
        "unlabelled_rows_behind_the_cut": int((unlabelled & ~train).sum()),
    }
    return Split(train=train, validation=validation, test=labelled[first_test:], unused=unused)


def _part_sizes(rows: int, test_share: float, validation_share: float) -> tuple[int, int]:
    """Rows of the test and of the validation part; the training part is rounded down."""
    held = math.ceil(rows * test_share - 1e-9)
    chosen = math.ceil((rows - held) * validation_share - 1e-9)
    if min(held, chosen, rows - held - chosen) < 1:
        raise UserError(
            f"{rows} labelled rows cannot fill training, validation ({validation_share}) and test "
            f"({test_share}): ranking needs `liked` or ratings in the interactions, shares between 0 and 1"
        )
    return held, chosen


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """The retrieval split as a config node."""

    def __call__(self, dataset: Dataset) -> Split:
        """See `leave_one_out`."""
        return leave_one_out(dataset)


@dataclass(frozen=True, kw_only=True)
class Temporal:
    """The ranking split as a config node."""

    test_share: float
    validation_share: float

    def __call__(self, dataset: Dataset) -> Split:
        """See `temporal`."""
        return temporal(dataset, test_share=self.test_share, validation_share=self.validation_share)


def training_counts(dataset: Dataset, split: Split) -> np.ndarray:
    """Interactions of each item in the training part, int64 ``[items]``."""
    return np.bincount(dataset.item[split.train], minlength=len(dataset.item_ids)).astype(np.int64)
