"""`scoring.exact_top_k` by a compiled kernel, with the same result."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from adasid_exp.functional.scoring import TopK, in_order
from adasid_exp.types import UserError


def exact_top_k(
    log_probs: Tensor, rows: Tensor, k: int, *, weights: Tensor | None = None, prior: Tensor | None = None
) -> TopK:
    """The k best items of the whole catalogue for each user; memory is O(users k), on the CPU.

    Takes and gives what `scoring.exact_top_k` does: plain sums bit for bit, weighted ones to rounding.

    Raises:
        UserError: numba is not installed.
    """
    if not len(rows):
        raise ValueError(f"a catalogue of {tuple(rows.shape)} has no item to rank")
    kernels = _kernels()
    k = min(k, len(rows))
    array = np.ascontiguousarray(rows.numpy(), np.int32)
    factors = None if weights is None else np.ascontiguousarray(weights.float().numpy())
    offsets = np.zeros(len(rows), np.float32) if prior is None else np.ascontiguousarray(prior.float().numpy())
    scores, items = np.empty((len(log_probs), k), np.float32), np.empty((len(log_probs), k), np.int64)
    for start in range(0, len(log_probs), kernels.LANES):
        users = log_probs[start : start + kernels.LANES].float().flatten(1)
        table = np.zeros((users.shape[1], kernels.LANES), np.float32)  # lanes without a user tie on 0: few candidates
        table[:, : len(users)] = users.t().numpy()
        heap, held = np.empty((kernels.LANES, k), np.float32), np.empty((kernels.LANES, k), np.int64)
        kernels.scan(table, array, factors, offsets, heap, held)
        part = slice(start, start + len(users))
        scores[part], items[part] = heap[: len(users)], held[: len(users)]
    return in_order(torch.from_numpy(scores), torch.from_numpy(items))


def _kernels() -> ModuleType:
    try:
        from adasid_exp.functional import scoring_kernels
    except ImportError as error:
        raise UserError("the compiled scan needs numba; install it with: pip install 'adasid-exp[numba]'") from error
    return scoring_kernels
