"""What the processes of one training (its ranks) tell each other; a single process computes as if there were none.

Every rank holds a part of a step's rows, parts may differ in size or be empty, and gradients are averaged over
ranks. A loss over all rows therefore returns on each rank ``ranks * own sum / count of all``: the mean over ranks
of that, and of its gradient, is the loss of one process that holds all rows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributed as dist


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if ranks() > 1 else 0


def over_ranks(values: Tensor) -> Tensor:
    """The sum over all ranks, in place; the values themselves in a single process."""
    if ranks() > 1:
        dist.all_reduce(values)
    return values


def from_first_rank(values: Tensor) -> Tensor:
    """Rank 0's values, in place; the values themselves in a single process."""
    if ranks() > 1:
        dist.broadcast(values, src=0)
    return values


def any_rank(flag: bool) -> bool:
    """Whether ``flag`` holds on some rank; all ranks must ask."""
    if ranks() == 1:
        return flag
    votes = torch.tensor(int(flag))
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes)


def rows_by_rank(rows: int) -> list[int]:
    """How many rows each rank holds."""
    if ranks() == 1:
        return [rows]
    counts = [torch.zeros((), dtype=torch.int64) for _ in range(ranks())]
    dist.all_gather(counts, torch.tensor(rows))
    return [int(count) for count in counts]


def place_among(rows: int) -> tuple[int, int]:
    """Where this rank's ``rows`` begin among those of all ranks, and how many these are."""
    counts = rows_by_rank(rows)
    return sum(counts[: own_rank()]), sum(counts)


def share_of(rows: int) -> tuple[int, int]:
    """Where this rank's near-equal share of ``rows`` begins, and where the next one's does."""
    first, last = (rows * rank // ranks() for rank in (own_rank(), own_rank() + 1))
    return first, last


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """Rows ``[rows, ...]`` of all ranks in their order, differentiable, and where this rank's begin."""
    if ranks() == 1:
        return rows, 0
    counts = rows_by_rank(len(rows))
    return _Gather.apply(rows, counts), sum(counts[: own_rank()])


def mean_over_ranks(values: Tensor, dim: int | None = None) -> Tensor:
    """This rank's part (see above) of the mean of all ranks' values, or of that along ``dim``."""
    if ranks() == 1:
        return values.mean() if dim is None else values.mean(dim)
    if dim is None:
        return ratio_over_ranks(values.sum(), values.numel())
    return ratio_over_ranks(values.sum(dim), values.shape[dim])


def ratio_over_ranks(sums: Tensor, counts: Tensor | int) -> Tensor:
    """This rank's part of ``sum / max(1, count)`` where both are over all ranks; ``counts`` broadcast to ``sums``."""
    if ranks() == 1:
        return sums / (max(counts, 1) if isinstance(counts, int) else counts.clamp(min=1))
    total = torch.tensor(counts, device=sums.device) if isinstance(counts, int) else counts.clone()
    return ranks() * sums / over_ranks(total).clamp(min=1)


def mse_over_ranks(left: Tensor, right: Tensor) -> Tensor:
    """This rank's part of the mean squared error over all ranks' rows."""
    return F.mse_loss(left, right) if ranks() == 1 else mean_over_ranks((left - right).square())


class _Gather(torch.autograd.Function):
    """All ranks' rows; what the ranks' losses say of a rank's rows is summed there."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.first, ctx.rows = sum(counts[: own_rank()]), len(rows)
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        total = over_ranks(slope.contiguous().clone())
        return total[ctx.first : ctx.first + ctx.rows], None
