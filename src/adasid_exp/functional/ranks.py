"""What the processes of one training (its ranks) tell each other; a single process computes as if there were none.

Every rank holds a part of a step's rows, parts may differ in size or be empty, and gradients are averaged over
ranks. A loss over all rows therefore returns on each rank ``ranks * own sum / count of all``: the mean over ranks
of that, and of its gradient, is the loss of one process that holds all rows.

A word between ranks costs about a millisecond of a CPU step, however short it is, so a step says few: how many rows
each rank holds follows from the sampler (`shared_rows`), what nobody waits for goes in one message beside the backward
pass (`LaterSums`), and what is gathered for one loss is gathered at once (`gathered_together`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributed as dist

_shares: list[Sequence[int]] = []
"""Rows of every rank as `shared_rows` says, the innermost last."""
_later: list[LaterSums] = []
"""Who collects sums, the innermost last."""


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if ranks() > 1 else 0


def over_ranks(values: Tensor) -> Tensor:
    """The sum over all ranks, in place; the values themselves in a single process."""
    if ranks() > 1:
        _sum(values)
    return values


def from_first_rank(values: Tensor) -> Tensor:
    """Rank 0's values, in place; the values themselves in a single process."""
    if ranks() > 1:
        _broadcast(values)
    return values


def all_from_first_rank(tensors: Iterable[Tensor]) -> None:
    """Rank 0's values of every tensor, in place, in one message for each type and device."""
    if ranks() == 1:
        return
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for alike in kinds.values():
        values = from_first_rank(torch.cat([tensor.reshape(-1) for tensor in alike]))
        for tensor, part in zip(alike, values.split([tensor.numel() for tensor in alike]), strict=True):
            tensor.copy_(part.view_as(tensor))


def most_of_ranks(number: int) -> int:
    """The largest ``number`` of all ranks; all must ask."""
    if ranks() == 1:
        return number
    most = torch.tensor(number)
    _maximum(most)
    return int(most)


def any_rank(flag: bool) -> bool:
    """Whether ``flag`` holds on some rank; all ranks must ask."""
    return bool(most_of_ranks(int(flag)))


@contextmanager
def shared_rows(counts: Sequence[int]) -> Iterator[None]:
    """Within, rank r holds ``counts[r]`` rows of whatever is asked about: nobody needs to ask."""
    _shares.append(counts)
    try:
        yield
    finally:
        _shares.pop()


def rows_by_rank(rows: int) -> list[int]:
    """How many rows each rank holds, this one ``rows``.

    Raises:
        ValueError: where `shared_rows` says otherwise of this rank.
    """
    if ranks() == 1:
        return [rows]
    if _shares:
        if _shares[-1][own_rank()] != rows:
            raise ValueError(f"rank {own_rank()} holds {rows} rows, not its share of {list(_shares[-1])}")
        return list(_shares[-1])
    counts = [torch.zeros((), dtype=torch.int64) for _ in range(ranks())]
    _gather(counts, torch.tensor(rows))
    return [int(count) for count in counts]


def place_among(rows: int) -> tuple[int, int]:
    """Where this rank's ``rows`` begin among those of all ranks, and how many these are."""
    counts = rows_by_rank(rows)
    return sum(counts[: own_rank()]), sum(counts)


def shares_of(rows: int) -> list[int]:
    """Near-equal shares of ``rows``, by rank."""
    return [rows * (rank + 1) // ranks() - rows * rank // ranks() for rank in range(ranks())]


def share_of(rows: int) -> tuple[int, int]:
    """Where this rank's near-equal share of ``rows`` begins, and where the next one's does."""
    first, last = (rows * rank // ranks() for rank in (own_rank(), own_rank() + 1))
    return first, last


def drawn_for_all(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """This rank's ``rows`` of random ones: ``draw`` makes those of all ranks, given how many, and rank 0's are taken.

    They are the rows that a single process draws, as long as nothing else was drawn by ranks apart (dropout is).
    """
    first, total = place_among(rows)
    return from_first_rank(draw(total))[first : first + rows]


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """Rows ``[rows, ...]`` of all ranks in their order, differentiable, and where this rank's begin."""
    if ranks() == 1:
        return rows, 0
    counts = rows_by_rank(len(rows))
    return _Gather.apply(rows, counts), sum(counts[: own_rank()])


def gathered_together(*tables: Tensor) -> tuple[list[Tensor], int]:
    """`gathered` of several tables ``[rows, ...]`` of float32, bool or int64, in one exchange."""
    if ranks() == 1:
        return list(tables), 0
    columns = [_as_floats(table) for table in tables]
    everyone, first = gathered(torch.cat(columns, dim=1))
    parts = everyone.split([column.shape[1] for column in columns], dim=1)
    return [_from_floats(part, table) for part, table in zip(parts, tables, strict=True)], first


def mean_over_ranks(values: Tensor, dim: int | None = None) -> Tensor:
    """This rank's part (see above) of the mean of all ranks' values ``[rows, ...]``, or of that along ``dim``."""
    if ranks() == 1:
        return values.mean() if dim is None else values.mean(dim)
    sums = values.sum() if dim is None else values.sum(dim)
    if not _shares:
        return ratio_over_ranks(sums, values.numel() if dim is None else values.shape[dim])
    rows = sum(rows_by_rank(values.shape[dim or 0]))
    return ranks() * sums / max(1, rows * (prod(values.shape[1:]) if dim is None else 1))


def ratio_over_ranks(sums: Tensor, counts: Tensor | int) -> Tensor:
    """This rank's part of ``sum / max(1, count)`` where both are over all ranks; ``counts`` broadcast to ``sums``."""
    if ranks() == 1:
        return sums / (max(counts, 1) if isinstance(counts, int) else counts.clamp(min=1))
    total = torch.tensor(counts, device=sums.device) if isinstance(counts, int) else counts.clone()
    return ratio_to_total(sums, over_ranks(total))


def ratio_to_total(sums: Tensor, totals: Tensor) -> Tensor:
    """`ratio_over_ranks` where the counts are over all ranks already."""
    ratio = sums / totals.clamp(min=1)
    return ratio if ranks() == 1 else ranks() * ratio


def mse_over_ranks(left: Tensor, right: Tensor) -> Tensor:
    """This rank's part of the mean squared error over all ranks' rows."""
    return F.mse_loss(left, right) if ranks() == 1 else mean_over_ranks((left - right).square())


def sum_later(values: Sequence[Tensor], then: Callable[..., None]) -> None:
    """Calls ``then`` with the sums of float32 ``values`` over all ranks: within `LaterSums` when it is read, else now.

    A single process calls it at once with the values themselves.
    """
    if ranks() > 1 and _later:
        _later[-1].letters.append((values, then))
    else:
        then(*(over_ranks(value) for value in values))


class LaterSums:
    """Collects what `sum_later` is told within it, sends it as one message at its end, and delivers when read.

    Between the two the ranks work on: nobody waits for the message but `read`.
    """

    def __init__(self) -> None:
        self.letters: list[tuple[Sequence[Tensor], Callable[..., None]]] = []
        self._sent = torch.zeros(0)
        self._work: dist.Work | None = None

    def __enter__(self) -> Self:
        self.read()
        _later.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _later.remove(self)
        if kind is not None or not self.letters:
            self.letters.clear()
            return
        self._sent = torch.cat([value.detach().reshape(-1) for values, _ in self.letters for value in values])
        self._work = dist.all_reduce(self._sent, async_op=True)

    def read(self) -> None:
        """Waits for the sums, if any were asked for, and hands them out in the order of asking."""
        if self._work is None:
            return
        self._work.wait()
        letters, self.letters, self._work = self.letters, [], None
        sums = iter(self._sent.split([value.numel() for values, _ in letters for value in values]))
        for values, then in letters:
            then(*[next(sums).view_as(value) for value in values])


@contextmanager
def summed_together() -> Iterator[None]:
    """Within, what `sum_later` is told is exchanged at the end, at once, in one message."""
    with LaterSums() as sums:
        yield
    sums.read()


def _as_floats(table: Tensor) -> Tensor:
    """``[rows, ...]`` as float32 ``[rows, columns]``; the bits of an int64 are kept, not its value."""
    flat = table.reshape(len(table), prod(table.shape[1:]))
    return flat.contiguous().view(torch.float32) if flat.dtype == torch.int64 else flat.float()


def _from_floats(columns: Tensor, like: Tensor) -> Tensor:
    """The reverse of `_as_floats`, for any number of rows."""
    if like.dtype == torch.int64:
        columns = columns.detach().clone(memory_format=torch.contiguous_format).view(torch.int64)
    return columns.to(like.dtype).reshape(len(columns), *like.shape[1:])


# Kept out of the graphs that trainer.compile makes: there all_gather becomes another one, which refuses scalars.


@torch.compiler.disable
def _sum(values: Tensor) -> None:
    dist.all_reduce(values)


@torch.compiler.disable
def _maximum(values: Tensor) -> None:
    dist.all_reduce(values, op=dist.ReduceOp.MAX)


@torch.compiler.disable
def _broadcast(values: Tensor) -> None:
    dist.broadcast(values, src=0)


@torch.compiler.disable
def _gather(parts: list[Tensor], own: Tensor) -> None:
    dist.all_gather(parts, own)


class _Gather(torch.autograd.Function):
    """All ranks' rows; what the ranks' losses say of a rank's rows is summed there."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.first, ctx.rows = sum(counts[: own_rank()]), len(rows)
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        _gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        total = over_ranks(slope.contiguous().clone())
        return total[ctx.first : ctx.first + ctx.rows], None
