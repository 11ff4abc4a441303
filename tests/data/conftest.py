"""Small data sets, written by hand or drawn at random."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.dataset import Dataset

DAY = 86_400


def _dataset(
    sequences: Sequence[Sequence[int]],
    items: int,
    days: Sequence[Sequence[int]] | None = None,
    liked: Sequence[Sequence[int]] | None = None,
) -> Dataset:
    """Users' item sequences, oldest first; by default a row's day is its position and everything is liked."""
    days = days or [range(len(sequence)) for sequence in sequences]
    liked = liked or [[1] * len(sequence) for sequence in sequences]
    item_ids = np.array([f"i{i}" for i in range(items)])
    return Dataset(
        user=np.repeat(np.arange(len(sequences)), [len(s) for s in sequences]).astype(np.int32),
        item=np.array([item for s in sequences for item in s], dtype=np.int32),
        timestamp=np.array([day * DAY for s in days for day in s], dtype=np.int64),
        liked=np.array([label for s in liked for label in s], dtype=np.int8),
        user_ids=np.array([f"u{u}" for u in range(len(sequences))]),
        item_ids=item_ids,
        items=pl.DataFrame({"item_id": item_ids}),
        arrays={},
        skipped={},
        notes=(),
    )


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    return _dataset


@pytest.fixture(scope="session")
def random_dataset() -> Dataset:
    """80 users with 1 to 60 interactions over 40 items, many on the same day, a fifth unlabelled."""
    generator = np.random.default_rng(7)
    lengths = np.concatenate([[1, 2, 3, 60], generator.integers(1, 45, size=76)])
    return _dataset(
        [generator.integers(40, size=n).tolist() for n in lengths],
        items=40,
        days=[np.sort(generator.integers(30, size=n)).tolist() for n in lengths],
        liked=[generator.choice([1, 1, 1, 0, -1], size=n).tolist() for n in lengths],
    )
