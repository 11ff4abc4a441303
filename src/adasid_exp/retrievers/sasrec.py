"""SASRec: a causal transformer over item vectors (arXiv 1808.09781; spec section 10)."""

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
        dim: width of item vectors and states.
        blocks: transformer blocks.
        heads: attention heads.
        hidden: width inside the feed-forward nets.
        steps: longest history.
        dropout: chance of a zero, on inputs and on the outputs of each part.
        init_std: spread of the initial weights; small, so that norms start short.
        next_item: the training loss.
    """

    def __init__(
        self,
        *,
        items: int,
        counts: Tensor,
        dim: int,
        blocks: int,
        heads: int,
        hidden: int,
        steps: int,
        dropout: float,
        init_std: float,
        next_item: NextItemLoss,
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(items, dim, _weight=torch.empty(items, dim).normal_(std=init_std))
        self.encoder = CausalTransformer(
            dim=dim,
            blocks=blocks,
            heads=heads,
            hidden=hidden,
            steps=steps,
            dropout=dropout,
            init_std=init_std,
        )
        self.next_item = next_item
        self.next_item.observe(counts)

    def loss(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        return self.next_item(self.states(batch.history), self.table.weight, batch)

    def scores(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        return last_steps(self.states(batch.history), batch.length) @ self.table.weight.t()

    def states(self, history: Tensor) -> Tensor:
        """States after each step of ``[users, steps]`` histories, ``[users, steps, dim]``."""
        return self.encoder(F.embedding(history, self.table.weight) * self.table.embedding_dim**0.5)

    def item_vectors(self) -> Tensor:
        """The item table as trained, not normalised, ``[items, dim]``."""
        return self.table.weight
