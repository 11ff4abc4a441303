"""A retriever that was trained elsewhere, evaluated as it is."""

from __future__ import annotations

from adasid_exp.functional.scoring import TopK
from adasid_exp.retrievers.base import Retriever
from adasid_exp.types import SequenceBatch, TargetRank


class Frozen(Retriever):
    """Ranks as the given retriever does, and has nothing to train.

    Args:
        behavior: a trained retriever; its parameters stop asking for gradients.
    """

    def __init__(self, *, behavior: Retriever) -> None:
        super().__init__()
        self.behavior = behavior.requires_grad_(False)

    def rank(self, batch: SequenceBatch) -> TargetRank:
        return self.behavior.rank(batch)

    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        return self.behavior.recommend(batch, k)
