"""Random states go through a checkpoint."""

import random

import numpy as np
import torch

from adasid_exp.training.rng_state import RngState, capture


def draws():
    return random.random(), float(np.random.random()), torch.rand(1).item(), float(np.random.normal())


def test_draws_continue_as_if_nothing_had_happened(tmp_path):
    np.random.normal()  # leaves half a pair behind, which is part of numpy's state
    torch.save(RngState().state_dict(), tmp_path / "state.pt")
    expected = draws()
    draws()
    callback = RngState()
    callback.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    callback.on_train_batch_start(None, None, None, 0)
    assert draws() == expected


def test_the_state_waits_for_the_first_batch_and_is_used_once():
    callback = RngState()
    callback.load_state_dict(capture())
    expected = draws()  # what set-up draws after loading does not count
    callback.on_train_batch_start(None, None, None, 0)
    assert draws() == expected
    callback.on_train_batch_start(None, None, None, 1)
    assert draws() != expected
