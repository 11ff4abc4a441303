"""Item neighborhoods: cosine of co-occurrence, recent items of the history first; nothing is learned."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from adasid_exp.functional.cooccurrence import cosine
from adasid_exp.functional.steps import valid_steps
from adasid_exp.retrievers.base import ScoredRetriever
from adasid_exp.types import SequenceBatch


class ItemKnn(ScoredRetriever):
    """Scores an item by its similarity to the history, ``sum_t decay^age_t cos(h_t, item)``.

    The cosine is that of two items' sets of users in the training part; an item is no neighbor of itself.

    Args:
        items: size of the catalogue.
        histories: every user's training sequence: item indices of all users, int64 ``[total]``, and where each
            user's begin, int64 ``[users + 1]``.
        steps: most recent items of a history that count.
        decay: weight of an item relative to the one after it.
    """

    starts: Tensor
    neighbors: Tensor
    similarities: Tensor

    def __init__(self, *, items: int, histories: tuple[Tensor, Tensor], steps: int, decay: float) -> None:
        super().__init__()
        self.items, self.steps, self.decay = items, steps, decay
        similar = cosine(*histories, items)
        self.register_buffer("starts", torch.from_numpy(similar.indptr.astype(np.int64)), persistent=False)
        self.register_buffer("neighbors", torch.from_numpy(similar.indices.astype(np.int64)), persistent=False)
        self.register_buffer("similarities", torch.from_numpy(similar.data.astype(np.float32)), persistent=False)

    def scores(self, batch: SequenceBatch) -> Tensor:
        age = batch.length[:, None] - 1 - torch.arange(batch.history.shape[1], device=batch.length.device)
        user, step = (valid_steps(batch) & (age < self.steps)).nonzero().unbind(1)
        item, weight = batch.history[user, step], self.decay ** age[user, step]
        many = self.starts[item + 1] - self.starts[item]
        entry = torch.arange(len(many), device=many.device).repeat_interleave(many)  # one a neighbor
        place = torch.arange(len(entry), device=many.device) - (many.cumsum(0) - many)[entry]
        near = self.starts[item][entry] + place
        totals = self.similarities.new_zeros(len(batch.history) * self.items)
        found = self.similarities[near] * weight[entry]
        totals.index_add_(0, user[entry] * self.items + self.neighbors[near], found)
        return totals.view(-1, self.items)
