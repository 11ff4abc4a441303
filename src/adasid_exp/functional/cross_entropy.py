"""Softmax cross-entropy over a whole item table that never holds more than one chunk of logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def full_cross_entropy(states: Tensor, table: Tensor, target: Tensor, chunk: int) -> Tensor:
    """Mean of ``-log softmax(states table^T)[target]`` (0 of no position), with gradients for states and table.

    The gradients are made in the forward pass, chunk by chunk, from the probabilities just computed: three
    matrix products in all and nothing of size ``[positions, items]`` kept. Computes in float32.

    Args:
        states: ``[positions, dim]``.
        table: ``[items, dim]``.
        target: the right item of each position, int64 ``[positions]``.
        chunk: positions at once.
    """
    return _FullCrossEntropy.apply(states, table, target, chunk)


class _FullCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, target: Tensor, chunk: int) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            loss, for_states, for_table = _forward(states.float(), table.float(), target, chunk)
        ctx.save_for_backward(for_states.to(states.dtype), for_table.to(table.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        for_states, for_table = ctx.saved_tensors
        return for_states * gradients[0], for_table * gradients[0], None, None


def _forward(states: Tensor, table: Tensor, target: Tensor, chunk: int) -> tuple[Tensor, Tensor, Tensor]:
    losses = []
    for_states, for_table = torch.empty_like(states), torch.zeros_like(table)
    room = states.new_empty(2, min(chunk, len(states)), len(table))
    parts = zip(states.split(chunk), target.split(chunk), for_states.split(chunk), strict=True)
    for part, wanted, gradient in parts:
        logits, share = room[:, : len(part)]
        torch.mm(part, table.t(), out=logits)
        torch.softmax(logits, dim=1, out=share)
        # The largest logit and its share give the log of the normaliser without another exponential.
        normaliser = logits.amax(1) - share.amax(1).log()
        losses.append(normaliser - logits.gather(1, wanted[:, None]).squeeze(1))
        share.scatter_add_(1, wanted[:, None], share.new_full((len(part), 1), -1.0))
        torch.mm(share, table, out=gradient)
        for_table.addmm_(share.t(), part)
    scale = 1.0 / max(1, len(states))
    loss = torch.cat(losses)
    return loss.mean() if len(states) else loss.sum(), for_states.mul_(scale), for_table.mul_(scale)
