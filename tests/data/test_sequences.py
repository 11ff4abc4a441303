"""Windows and held-out histories against loops written out in the test."""

import numpy as np
import pytest
import torch

from adasid_exp.data.sequences import SequenceDataModule, training_windows
from adasid_exp.data.splits import leave_one_out, temporal


def test_windows_by_hand():
    # users with 8, 1, 0 and 3 items; windows of at most 3 steps, cut from the end:
    # user 0 has targets 1..7 -> 1 + 3 + 3 steps; user 3 has targets 10, 11 -> 2 steps
    user, windows = training_windows(np.array([0, 8, 9, 9, 12]), history=3)
    assert user.tolist() == [0, 0, 0, 3]
    assert windows.start.tolist() == [0, 1, 4, 9]
    assert windows.length.tolist() == [1, 3, 3, 2]


def _training_sequences(dataset, split):
    rows = [range(a, b) for a, b in zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)]
    return [[int(dataset.item[row]) for row in some if split.train[row]] for some in rows]


@pytest.mark.parametrize("history", [1, 7, 20, 100])
def test_every_training_item_but_the_first_is_a_target_once(random_dataset, history):
    split = leave_one_out(random_dataset)
    data = SequenceDataModule(dataset=random_dataset, split=split, batch_size=16, history=history, seed=0)
    sequences = _training_sequences(random_dataset, split)
    found = {user: [] for user in range(len(sequences))}
    for batch in data.train_dataloader():
        assert batch.history.shape[1] == batch.length.max() <= history
        behind = torch.arange(batch.history.shape[1]) >= batch.length[:, None]
        assert not batch.history[behind].any()
        assert not batch.target[behind].any()
        for user, items, length, target in zip(*(t.tolist() for t in vars(batch).values()), strict=True):
            assert items[1:length] == target[: length - 1]  # within a window the next item is the target
            found[user].append((items[0], target[:length]))
    for user, sequence in enumerate(sequences):
        pieces = [[first, *targets] for first, targets in found[user]]
        assert sum(len(piece) - 1 for piece in pieces) == max(len(sequence) - 1, 0)
        # glued at their shared ends, the pieces are the sequence: full ones last
        expected = [sequence[max(end - history, 0) : end + 1] for end in range(len(sequence) - 1, 0, -history)]
        assert sorted(pieces) == sorted(expected)


def _reference(dataset, visible, held, history):
    """Per user: the first held-out row with anything visible before it, and the last of that."""
    expected = {}
    for row in sorted(held):
        user = int(dataset.user[row])
        before = [int(dataset.item[r]) for r in range(dataset.offsets[user], row) if visible[r]]
        if before and user not in expected:
            expected[user] = (before[-history:], int(dataset.item[row]))
    return expected


@pytest.mark.parametrize("rule", [leave_one_out, lambda d: temporal(d, test_share=0.2, validation_share=0.2)])
@pytest.mark.parametrize("history", [3, 20])
def test_held_out_histories(random_dataset, rule, history):
    split = rule(random_dataset)
    data = SequenceDataModule(dataset=random_dataset, split=split, batch_size=7, history=history, seed=0)
    with_validation = split.train.copy()
    with_validation[split.validation] = True
    parts = [
        (data.val_dataloader(), split.train, split.validation),
        (data.test_dataloader(), with_validation, split.test),
    ]
    for loader, visible, held in parts:
        found = {}
        for batch in loader:
            assert not batch.history[torch.arange(batch.history.shape[1]) >= batch.length[:, None]].any()
            for user, items, length, target in zip(*(t.tolist() for t in vars(batch).values()), strict=True):
                assert user not in found
                found[user] = (items[:length], target)
        assert found == _reference(random_dataset, visible, held, history)


def test_leave_one_out_asks_every_user_with_three(random_dataset):
    split = leave_one_out(random_dataset)
    data = SequenceDataModule(dataset=random_dataset, split=split, batch_size=7, history=20, seed=0)
    users = torch.cat([batch.user for batch in data.test_dataloader()]).sort().values
    assert users.tolist() == np.flatnonzero(np.diff(random_dataset.offsets) >= 3).tolist()


def test_histories_are_the_training_part(random_dataset):
    split = leave_one_out(random_dataset)
    data = SequenceDataModule(dataset=random_dataset, split=split, batch_size=7, history=3, seed=0)
    items, offsets = data.histories()
    pieces = [items[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    assert pieces == _training_sequences(random_dataset, split)


def test_bucketing_leaves_little_padding(random_dataset):
    split = leave_one_out(random_dataset)
    data = SequenceDataModule(dataset=random_dataset, split=split, batch_size=8, history=20, seed=0)
    cells = [(int(batch.length.sum()), batch.history.numel()) for batch in data.train_dataloader()]
    lengths = np.concatenate([batch.length.numpy() for batch in data.train_dataloader()])
    used, paid = np.sum(cells, axis=0)
    assert used / paid > 0.9 > lengths.mean() / lengths.max()  # the right side is what no bucketing costs
