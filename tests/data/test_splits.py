"""Splits against hand-made cases, and the law that held-out rows reach nothing that learns."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adasid_exp.data.impressions import ImpressionDataModule
from adasid_exp.data.sequences import SequenceDataModule, training_histories
from adasid_exp.data.splits import LeaveOneOut, Temporal, leave_one_out, temporal, training_counts
from adasid_exp.types import UserError


def test_leave_one_out_by_hand(make_dataset):
    dataset = make_dataset([[0, 1, 2, 3], [4, 0], [1, 2, 3], [2]], items=5)
    split = leave_one_out(dataset)
    assert split.test.tolist() == [3, 8]
    assert split.validation.tolist() == [2, 7]
    assert np.flatnonzero(split.train).tolist() == [0, 1, 4, 5, 6, 9]
    assert dict(split.unused) == {"users_without_holdout": 2}


def test_counts_see_the_training_part_only(make_dataset):
    dataset = make_dataset([[0, 1, 2, 3], [4, 0], [1, 2, 3], [2]], items=5)
    # training rows hold items 0 1 | 4 0 | 1 | 2
    assert training_counts(dataset, leave_one_out(dataset)).tolist() == [2, 2, 1, 0, 1]


def test_temporal_by_hand(make_dataset):
    dataset = make_dataset(
        [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]],
        items=5,
        days=[[1, 2, 3, 3, 9], [1, 3, 3, 4, 5]],
        liked=[[1, 0, -1, 1, 1], [1, 1, 0, -1, 0]],
    )
    # by (day, user, position): 0 5 | 1 | 2 3 6 7 | 8 | 9 | 4 with rows 2 and 8 unlabelled: 8 labelled rows.
    # test = ceil(8 * .25) = 2 rows (9, 4); validation = ceil(6 * .3) = 2 rows (6, 7); before 6: 0 5 1 2 3.
    split = temporal(dataset, test_share=0.25, validation_share=0.3)
    assert split.test.tolist() == [9, 4]
    assert split.validation.tolist() == [6, 7]
    assert np.flatnonzero(split.train).tolist() == [0, 1, 2, 3, 5]
    assert dict(split.unused) == {"unlabelled_rows": 2, "unlabelled_rows_behind_the_cut": 1}


def test_temporal_cuts_like_the_published_counts(make_dataset):
    # 156,433 labelled rows -> 140,789 and 15,644, the figures of the real data; 14,079 is a tenth of 140,789.
    dataset = make_dataset([range(156_433)], items=156_433)
    split = temporal(dataset, test_share=0.1, validation_share=0.1)
    assert (len(split.test), len(split.validation)) == (15_644, 14_079)
    assert split.train.sum() == 156_433 - 15_644 - 14_079


@pytest.mark.parametrize("liked", [[-1] * 6, [1, 0, -1, -1, -1, -1]])
def test_too_few_labels_are_one_line(make_dataset, liked):
    dataset = make_dataset([range(6)], items=6, liked=[liked])
    with pytest.raises(UserError, match=r"^\d labelled rows cannot fill .* needs `liked`") as caught:
        temporal(dataset, test_share=0.1, validation_share=0.1)
    assert "\n" not in str(caught.value)


def test_parts_are_disjoint_and_in_the_order_of_time(random_dataset):
    split = temporal(random_dataset, test_share=0.2, validation_share=0.2)
    train = np.flatnonzero(split.train)
    assert not set(train) & set(split.validation)
    assert not set(train) & set(split.test)
    assert not set(split.validation) & set(split.test)
    clock = random_dataset.timestamp
    assert clock[train].max() <= clock[split.validation].min()
    assert clock[split.validation].max() <= clock[split.test].min()
    assert (random_dataset.liked[np.concatenate([split.validation, split.test])] >= 0).all()


def _derived(dataset, split) -> list[bytes]:
    """Bytes of everything that learns, and of the validation histories of the ranking task."""
    histories = training_histories(dataset, split)
    sequences = SequenceDataModule(dataset=dataset, split=split, batch_size=16, history=5, seed=3)
    ranking = ImpressionDataModule(dataset=dataset, split=split, batch_size=16, history=5, seed=3)
    tensors = [tensor for batch in sequences.train_dataloader() for tensor in vars(batch).values()]
    tensors += [tensor for batch in ranking.train_dataloader() for tensor in vars(batch).values()]
    tensors += [tensor for batch in ranking.test_dataloader() for tensor in (batch.history, batch.length)]
    return [
        training_counts(dataset, split).tobytes(),
        histories.items.numpy().tobytes(),
        *[tensor.numpy().tobytes() for tensor in tensors],
    ]


@pytest.mark.parametrize("rule", [LeaveOneOut(), Temporal(test_share=0.2, validation_share=0.2)])
def test_held_out_rows_move_no_byte(random_dataset, rule):
    split = rule(random_dataset)
    held = np.concatenate([split.validation, split.test])
    item, liked = random_dataset.item.copy(), random_dataset.liked.copy()
    item[held] = (item[held] + 1) % 40
    liked[held] = np.where(liked[held] >= 0, 1 - liked[held], -1)
    changed = replace(random_dataset, item=item, liked=liked)
    again = rule(changed)
    assert np.array_equal(again.train, split.train)
    assert _derived(changed, again) == _derived(random_dataset, split)
    item = random_dataset.item.copy()
    item[np.flatnonzero(split.train)[0]] += 1  # the comparison can fail: a training row does move bytes
    assert _derived(replace(random_dataset, item=item), split) != _derived(random_dataset, split)


@pytest.mark.beauty
def test_real_beauty_counts(beauty):
    # Figures of the data's own description.
    split = temporal(beauty, test_share=0.1, validation_share=0.1)
    assert (
        split.train.sum() + split.unused["unlabelled_rows_behind_the_cut"] + len(split.validation) + 15_644 == 198_502
    )
    assert (len(split.test), len(beauty.liked) - split.unused["unlabelled_rows"]) == (15_644, 156_433)
    user, liked = beauty.user[split.test], beauty.liked[split.test]
    seen, some = np.bincount(user), np.bincount(user, weights=liked)
    assert ((some > 0) & (some < seen)).sum() == pytest.approx(951, abs=5)
    retrieval = leave_one_out(beauty)
    assert (len(retrieval.test), retrieval.train.sum()) == (22_363, 198_502 - 2 * 22_363)


@pytest.fixture(scope="module")
def beauty():
    folder = os.environ.get("ADASID_BEAUTY")
    if not folder:
        pytest.skip("ADASID_BEAUTY names no folder")
    import polars as pl

    from adasid_exp.artifacts.dataset import Dataset
    from adasid_exp.data.raw import RawTables

    raw = RawTables(
        interactions=pl.read_parquet(Path(folder) / "interactions.parquet"),
        items=pl.read_parquet(Path(folder) / "items.parquet"),
    )
    return Dataset.from_raw(raw, minimum_interactions=0)
