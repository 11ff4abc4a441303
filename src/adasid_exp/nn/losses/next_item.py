"""What a sequence model is told about the items that did not come next.

Each loss takes the states of a batch, the item table they are compared with and the batch itself, and
gathers the valid steps before it computes anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adasid_exp.functional.cross_entropy import full_cross_entropy
from adasid_exp.functional.negatives import draw_excluding, inverse_cdf
from adasid_exp.functional.ranks import (
    drawn_for_all,
    from_first_rank,
    gathered,
    mean_over_ranks,
    most_of_ranks,
    ranks,
    ratio_over_ranks,
)
from adasid_exp.functional.steps import last_steps, valid_steps
from adasid_exp.types import SequenceBatch

ItemTable = Tensor | Callable[[Tensor], Tensor]
"""Item vectors ``[items, dim]``, or what makes those that are asked for, ``int64 [...] -> [..., dim]``."""


class NextItemLoss(nn.Module, ABC):
    """A loss of states against the items that follow them."""

    def observe(self, counts: Tensor) -> None:
        """Learns how often the training part holds each item, int64 ``[items]``; most losses do not ask."""

    @abstractmethod
    def forward(self, states: Tensor, table: ItemTable, batch: SequenceBatch) -> Tensor:
        """Mean loss over valid steps of all ranks (see `ranks`), a scalar.

        Args:
            states: ``[users, steps, dim]``.
            table: the items' vectors.
            batch: with the next item of each step.
        """


def vectors_of(table: ItemTable, items: Tensor) -> Tensor:
    """The vectors of some items, ``int64 [...] -> [..., dim]``."""
    vectors: Tensor = F.embedding(items, table) if isinstance(table, Tensor) else table(items)
    return vectors


class BinaryCrossEntropy(NextItemLoss):
    """One negative a step, drawn with chance ~ count^exponent and never from the row's own items.

    Exponent 0 is SASRec's uniform negative; 0.75 keeps rare items short. Rank 0 draws for every rank.

    Args:
        exponent: of the count.
    """

    ends: Tensor

    def __init__(self, *, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent
        self.register_buffer("ends", torch.zeros(0, dtype=torch.int64), persistent=False)

    def observe(self, counts: Tensor) -> None:
        self.ends = inverse_cdf(counts.double().pow(self.exponent))

    def forward(self, states: Tensor, table: ItemTable, batch: SequenceBatch) -> Tensor:
        valid = valid_steps(batch)
        states, positive, negative = states[valid], batch.target[valid], self.negatives(batch, valid)[valid]
        pairs = vectors_of(table, torch.stack([positive, negative]))  # [2, positions, dim]
        right, wrong = torch.linalg.vecdot(pairs, states).unbind()
        return mean_over_ranks(F.softplus(-right) + F.softplus(wrong))

    def negatives(self, batch: SequenceBatch, valid: Tensor) -> Tensor:
        """An item a step that the row neither holds nor goes on to, int64 ``[users, steps]``."""
        own = torch.cat([batch.history, last_steps(batch.target, batch.length)[:, None]], dim=1)
        rows, steps = valid.shape
        widest = most_of_ranks(steps)
        draws = drawn_for_all(lambda total: torch.rand(total, widest, dtype=torch.float64, device=valid.device), rows)
        return draw_excluding(self.ends, own, F.pad(valid, (0, 1), value=True), draws[:, :steps])


class InBatchSoftmax(NextItemLoss):
    """Softmax over the next item and a sample of all ranks' other next items, popularity not corrected.

    Rank 0 draws the sample for every rank, so that it is the one that a single process draws. Computes in float32.

    Args:
        negatives: items sampled per batch.
    """

    def __init__(self, *, negatives: int) -> None:
        super().__init__()
        self.negatives = negatives

    def forward(self, states: Tensor, table: ItemTable, batch: SequenceBatch) -> Tensor:
        valid = valid_steps(batch)
        states, positive = states[valid], batch.target[valid]
        offered, _ = gathered(positive)
        drawn = offered[from_first_rank(torch.randint(len(offered), (self.negatives,), device=positive.device))]
        with torch.autocast(states.device.type, enabled=False):  # half precision would round logits of tens to eighths
            states = states.float()
            right = torch.linalg.vecdot(vectors_of(table, positive).float(), states)
            wrong = states @ vectors_of(table, drawn).float().t()
            wrong = wrong.masked_fill(drawn == positive[:, None], -torch.inf)
            return mean_over_ranks(torch.logaddexp(right, wrong.logsumexp(1)) - right)


class FullSoftmax(NextItemLoss):
    """Softmax cross-entropy over the whole catalogue.

    Args:
        chunk: positions whose logits exist at once.
    """

    def __init__(self, *, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk

    def forward(self, states: Tensor, table: ItemTable, batch: SequenceBatch) -> Tensor:
        if not isinstance(table, Tensor):
            raise ValueError("a softmax over the whole catalogue needs the vectors of all items at once")
        valid = valid_steps(batch)
        loss, steps = full_cross_entropy(states[valid], table, batch.target[valid], self.chunk), int(valid.sum())
        return loss if ranks() == 1 else ratio_over_ranks(loss * steps, steps)
