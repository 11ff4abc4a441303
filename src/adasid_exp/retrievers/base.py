"""What a retriever is: histories in, the rank of the held-out item among the whole catalogue out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from adasid_exp.functional.scoring import TopK, rank_in_scores, top_k_of_scores
from adasid_exp.types import SequenceBatch, TargetRank


class Retriever(nn.Module, ABC):
    """Ranks every item of the catalogue for a user; items of the history stay candidates."""

    @abstractmethod
    def rank(self, batch: SequenceBatch) -> TargetRank:
        """Where the held-out item of each user stands."""

    @abstractmethod
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        """The k best items of each user, sorted by (score descending, item ascending)."""


class TrainableRetriever(Retriever):
    """A retriever that learns from the next items of histories."""

    @abstractmethod
    def loss(self, batch: SequenceBatch) -> Tensor:
        """The training loss over all valid steps, a scalar."""


class ScoredRetriever(Retriever):
    """A retriever that scores all items at once, ``[users, items]``."""

    @abstractmethod
    def scores(self, batch: SequenceBatch) -> Tensor:
        """Scores of the whole catalogue, ``[users, items]``."""

    @torch.no_grad()
    def rank(self, batch: SequenceBatch) -> TargetRank:
        return rank_in_scores(self.scores(batch), batch.target)

    @torch.no_grad()
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        return top_k_of_scores(self.scores(batch), k)
