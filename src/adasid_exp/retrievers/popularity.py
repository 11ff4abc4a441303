"""The same list for everyone: items by how often the training part holds them."""

from __future__ import annotations

from torch import Tensor

from adasid_exp.retrievers.base import ScoredRetriever
from adasid_exp.types import SequenceBatch


class Popularity(ScoredRetriever):
    """Scores an item by its count.

    Args:
        counts: interactions of each item in the training part, int64 ``[items]``.
    """

    counts: Tensor

    def __init__(self, *, counts: Tensor) -> None:
        super().__init__()
        self.register_buffer("counts", counts.float())

    def scores(self, batch: SequenceBatch) -> Tensor:
        return self.counts.expand(len(batch.user), -1).contiguous()
