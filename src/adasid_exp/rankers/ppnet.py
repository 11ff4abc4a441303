"""PPNet: a perceptron gated by what is known of user and item (PEPNet, arXiv 2302.01115, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from adasid_exp.nn.embedding import EmbeddingTable
from adasid_exp.nn.representations.base import ItemRepresentation
from adasid_exp.rankers.base import Ranker
from adasid_exp.types import ImpressionBatch


class PPNet(Ranker):
    """Features: user, item, pooled history and its length; gate prior: user and item, by tables of their own.

    Everything but ``representation`` is the same for all methods. Users the training part lacks (index
    ``users`` and above) share one row that is and stays zero.

    Args:
        users: number of users.
        representation: vectors of items, for the target and the history alike.
        pooling: builds what turns a history into one vector, given ``dim``.
        tower: builds the gated perceptron, given ``inputs`` and ``priors``.
        feature_dim: width of the user's and the history length's embedding.
        prior_dim: width of the user's gate embedding.
        length_buckets: upper ends of the history length buckets; longer ones share the last bucket.
    """

    length_bounds: Tensor

    def __init__(
        self,
        *,
        users: int,
        representation: ItemRepresentation,
        pooling: Callable[..., nn.Module],
        tower: Callable[..., nn.Module],
        feature_dim: int,
        prior_dim: int,
        length_buckets: Sequence[int],
    ) -> None:
        super().__init__()
        self.users = users
        self.representation = representation
        self.pooling = pooling(dim=representation.dim)
        self.user = EmbeddingTable(users + 1, feature_dim, padding_idx=users)
        self.user_prior = EmbeddingTable(users + 1, prior_dim, padding_idx=users)
        self.history_length = EmbeddingTable(len(length_buckets) + 1, feature_dim)
        self.register_buffer("length_bounds", torch.tensor(list(length_buckets)), persistent=False)
        self.tower = tower(inputs=2 * feature_dim + 2 * representation.dim, priors=prior_dim + representation.prior_dim)

    def forward(self, batch: ImpressionBatch) -> Tensor:
        """Logits of the impressions, ``[rows]``."""
        user = batch.user.clamp(max=self.users)
        prior = torch.cat([self.user_prior(user), self.representation.prior(batch.item)], 1)
        return self.tower(self.features(user, batch), prior)

    def features(self, user: Tensor, batch: ImpressionBatch) -> Tensor:
        """All feature embeddings side by side, ``[rows, inputs]``."""
        valid = torch.arange(batch.history.shape[1], device=user.device) < batch.length[:, None]
        row, step = valid.nonzero(as_tuple=True)
        vectors = self.representation(torch.cat([batch.item, batch.history[row, step]]))
        target, steps = vectors.split([len(user), len(row)])
        pooled = self.pooling(target, steps, row, batch.length)
        bucket = torch.bucketize(batch.length, self.length_bounds)
        return torch.cat([self.user(user), target, pooled, self.history_length(bucket)], 1)
