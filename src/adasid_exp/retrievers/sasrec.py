"""SASRec: a causal transformer over item vectors (arXiv 1808.09781)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adasid_exp.functional.steps import last_steps, trimmed
from adasid_exp.nn.losses.next_item import NextItemLoss
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.base import ScoredRetriever, TrainableRetriever
from adasid_exp.types import SequenceBatch


class SasRec(ScoredRetriever, TrainableRetriever):
    """Scores an item by the inner product of its vector and the state after the last step.

    Args:
        items: size of the catalogue.
        counts: interactions of each item in the training part, int64 ``[items]``.
        encoder: histories of item vectors to states of the same width.
        init_std: spread of the initial item vectors; small, so that norms start short.
        next_item: the training loss.
    """

    def __init__(
        self,
        *,
        items: int,
        counts: Tensor,
        encoder: CausalTransformer,
        init_std: float,
        next_item: NextItemLoss,
    ) -> None:
        super().__init__()
        vectors = torch.empty(items, encoder.dim).normal_(std=init_std)
        self.table = nn.Embedding(items, encoder.dim, _weight=vectors)
        self.encoder = encoder
        self.next_item = next_item
        self.next_item.observe(counts)

    def loss(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        return self.next_item(self.states(batch.history), self.table.weight, batch)

    def scores(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        states = last_steps(self.states(batch.history), batch.length)
        with torch.autocast(states.device.type, enabled=False):  # half precision would tie neighbors
            return states.float() @ self.table.weight.t()

    def states(self, history: Tensor) -> Tensor:
        """States after each step of ``[users, steps]`` histories, ``[users, steps, dim]``."""
        return self.encoder(F.embedding(history, self.table.weight) * self.table.embedding_dim**0.5)

    def item_vectors(self) -> Tensor:
        """The item table as trained, not normalised, ``[items, dim]``."""
        return self.table.weight
