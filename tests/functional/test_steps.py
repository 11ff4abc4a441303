"""Reading right-padded histories, by hand."""

import torch

from adasid_exp.functional.steps import last_steps, trimmed, valid_steps
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
