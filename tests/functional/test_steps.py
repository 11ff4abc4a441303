"""Reading right-padded histories, by hand."""

import torch

from adasid_exp.functional.steps import last_steps, one_step_each, trimmed, valid_steps
from adasid_exp.types import SequenceBatch


def batch_of(target):
    return SequenceBatch(
        user=torch.tensor([0, 1]),
        history=torch.tensor([[7, 8, 0, 0], [9, 0, 0, 0]]),
        length=torch.tensor([2, 1]),
        target=target,
    )


def test_trimmed_cuts_steps_that_no_row_uses():
    training = trimmed(batch_of(torch.tensor([[8, 5, 0, 0], [6, 0, 0, 0]])))
    assert training.history.tolist() == [[7, 8], [9, 0]]
    assert training.target.tolist() == [[8, 5], [6, 0]]
    held_out = trimmed(batch_of(torch.tensor([5, 6])))
    assert held_out.history.tolist() == [[7, 8], [9, 0]]
    assert held_out.target.tolist() == [5, 6]


def test_valid_and_last_steps():
    batch = batch_of(torch.tensor([5, 6]))
    assert valid_steps(batch).tolist() == [[True, True, False, False], [True, False, False, False]]
    assert last_steps(batch.history, batch.length).tolist() == [8, 9]


def test_one_step_each_leaves_the_padding_out():
    alone = one_step_each(batch_of(torch.tensor([[8, 5, 0, 0], [6, 0, 0, 0]])))
    assert alone.user.tolist() == [0, 0, 1]
    assert alone.history.tolist() == [[7], [8], [9]]
    assert alone.length.tolist() == [1, 1, 1]
    assert alone.target.tolist() == [[8], [5], [6]]
    none, no_steps = torch.zeros(0).long(), torch.zeros(0, 2).long()
    empty = one_step_each(SequenceBatch(user=none, history=no_steps, length=none, target=no_steps))
    assert empty.target.shape == (0, 1)
