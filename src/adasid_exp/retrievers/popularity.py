"""The same list for everyone: items by how often the training part holds them."""

from __future__ import annotations

import torch
from torch import Tensor

from adasid_exp.functional.scoring import TopK
from adasid_exp.retrievers.base import Retriever
from adasid_exp.types import SequenceBatch, TargetRank


class Popularity(Retriever):
    """Scores an item by its count: the catalogue is ordered once, and no user costs a pass over it.

    Args:
        counts: interactions of each item in the training part, int64 ``[items]``.
    """

    counts: Tensor
    order: Tensor
    above: Tensor
    tied: Tensor

    def __init__(self, *, counts: Tensor) -> None:
        super().__init__()
        _, place, shared = counts.unique(return_inverse=True, return_counts=True)
        tied = shared[place]
        up_to = shared.cumsum(0)[place]
        self.register_buffer("counts", counts.float())
        self.register_buffer("order", counts.sort(descending=True, stable=True).indices, persistent=False)
        self.register_buffer("above", len(counts) - up_to, persistent=False)
        self.register_buffer("tied", tied, persistent=False)

    @torch.no_grad()
    def rank(self, batch: SequenceBatch) -> TargetRank:
        above, tied = self.above[batch.target], self.tied[batch.target]
        return TargetRank(above=above, tied=tied, sid_above=above, sid_tied=tied)

    @torch.no_grad()
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        items = self.order[:k].expand(len(batch.history), -1)
        return TopK(items=items, scores=self.counts[items])
