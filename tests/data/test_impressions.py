"""Impressions against a loop over rows written out in the test."""

import numpy as np
import pytest
import torch

from adasid_exp.data.impressions import ImpressionDataModule
from adasid_exp.data.splits import temporal


def _rows_of(loader):
    """Every impression as (user, item, history, label)."""
    for batch in loader:
        assert batch.history.shape[1] == max(1, int(batch.length.max()))
        assert not batch.history[torch.arange(batch.history.shape[1]) >= batch.length[:, None]].any()
        columns = (batch.user, batch.item, batch.history, batch.length, batch.label)
        for user, item, history, length, label in zip(*(column.tolist() for column in columns), strict=True):
            yield user, item, tuple(history[:length]), label


def _reference(dataset, split, rows, history):
    users = len(dataset.user_ids)
    known = {int(dataset.user[r]) for r in np.flatnonzero(split.train) if dataset.liked[r] >= 0}
    for row in rows:
        user = int(dataset.user[row])
        before = [int(dataset.item[r]) for r in range(dataset.offsets[user], row) if split.train[r]]
        label = float(dataset.liked[row])
        yield user if user in known else users + user, int(dataset.item[row]), tuple(before[-history:]), label


@pytest.mark.parametrize("history", [1, 4, 20])
def test_rows_and_histories(random_dataset, history):
    split = temporal(random_dataset, test_share=0.2, validation_share=0.2)
    data = ImpressionDataModule(dataset=random_dataset, split=split, batch_size=50, history=history, seed=0)
    train = np.flatnonzero(split.train & (random_dataset.liked >= 0))
    assert sorted(_rows_of(data.train_dataloader())) == sorted(_reference(random_dataset, split, train, history))
    for loader, rows in [(data.val_dataloader(), split.validation), (data.test_dataloader(), split.test)]:
        assert list(_rows_of(loader)) == list(_reference(random_dataset, split, rows, history))


def test_strangers_stay_apart_behind_the_known_users(make_dataset):
    # user 1 comes after the cut; user 2 comes before, but unlabelled: no impression trains its row
    dataset = make_dataset(
        [[0, 1, 2, 3, 4, 0], [1, 2], [3, 4]],
        items=5,
        days=[[0, 1, 2, 3, 4, 5], [6, 8], [0, 9]],
        liked=[[1, 0, 1, 1, 1, 1], [1, 0], [-1, 0]],
    )
    split = temporal(dataset, test_share=0.2, validation_share=0.2)
    data = ImpressionDataModule(dataset=dataset, split=split, batch_size=10, history=5, seed=0)
    assert split.validation.tolist() == [5, 6]
    # three users, so user 1 unknown is 3 + 1 and user 2 unknown is 3 + 2
    assert list(_rows_of(data.val_dataloader())) == [(0, 0, (0, 1, 2, 3, 4), 1.0), (4, 1, (), 1.0)]
    assert list(_rows_of(data.test_dataloader())) == [(4, 2, (), 0.0), (5, 4, (3,), 0.0)]


def test_epochs_differ_and_repeat(random_dataset):
    split = temporal(random_dataset, test_share=0.2, validation_share=0.2)

    def epochs(seed):
        data = ImpressionDataModule(dataset=random_dataset, split=split, batch_size=50, history=4, seed=seed)
        loader = data.train_dataloader()
        return [list(_rows_of(loader)) for _ in range(2)]

    first, second = epochs(seed=0)
    assert first != second
    assert [first, second] == epochs(seed=0)
    assert first != epochs(seed=1)[0]
