"""Reading right-padded histories."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from adasid_exp.types import SequenceBatch


def trimmed(batch: SequenceBatch) -> SequenceBatch:
    """The batch without the trailing steps that no row uses."""
    steps = int(batch.length.max()) if len(batch.length) else 1
    if steps == batch.history.shape[1]:
        return batch
    target = batch.target[:, :steps] if batch.target.dim() == 2 else batch.target
    return replace(batch, history=batch.history[:, :steps], target=target)


def valid_steps(batch: SequenceBatch) -> Tensor:
    """Which steps of the history are not padding, bool ``[users, steps]``."""
    return torch.arange(batch.history.shape[1], device=batch.length.device) < batch.length[:, None]


def last_steps(states: Tensor, length: Tensor) -> Tensor:
    """Values at each row's last valid step: ``[users, steps, ...]`` to ``[users, ...]``."""
    return states[torch.arange(len(states), device=states.device), length - 1]


def one_step_each(batch: SequenceBatch) -> SequenceBatch:
    """Every valid step of a training batch as a history of its own, of that one item, ``[positions, 1]``."""
    valid = valid_steps(batch)
    history, target = batch.history[valid][:, None], batch.target[valid][:, None]
    user = batch.user.repeat_interleave(batch.length)
    return replace(batch, user=user, history=history, length=torch.ones_like(user), target=target)
