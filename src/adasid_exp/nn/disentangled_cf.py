"""Collaborative filtering whose vectors hold interest and popularity apart (DAS, arXiv 2508.10584; DICE)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.linalg import vecdot

from adasid_exp.functional.contrastive import EPS
from adasid_exp.functional.ranks import mean_over_ranks
from adasid_exp.nn.embedding import EmbeddingTable
from adasid_exp.nn.interactions import Drawn


class DisentangledCF(nn.Module):
    """Two vectors a user (interest, conformity) and two an item (property, popularity); scores are their products.

    BPR against one negative: of the whole score on all pairs, of conformity with popularity where the positive
    is the more popular, of interest with property where it is not, since popularity cannot explain those.

    Args:
        users, items: rows of the tables.
        width: of every vector.
        weight: of this loss in the total (the paper's alpha).
        parts_weight: of the two partial scores' losses.
        orthogonality: weight of the squared cosines of a user's two vectors and of an item's.
    """

    def __init__(
        self, *, users: int, items: int, width: int, weight: float, parts_weight: float, orthogonality: float
    ) -> None:
        super().__init__()
        self.width = width
        self.weight, self.parts_weight, self.orthogonality = weight, parts_weight, orthogonality
        self.interest, self.conformity = EmbeddingTable(users, width), EmbeddingTable(users, width)
        self.property, self.popularity = EmbeddingTable(items, width), EmbeddingTable(items, width)

    def forward(self, drawn: Drawn, counts: Tensor) -> dict[str, Tensor]:
        """Term by name.

        Args:
            drawn: interactions with their negatives.
            counts: of every item, int64 ``[items]``.
        """
        interest, conformity = self.interest(drawn.user), self.conformity(drawn.user)
        liked, famous = self.property(drawn.item), self.popularity(drawn.item)
        by_interest = vecdot(interest, liked - self.property(drawn.negative))
        by_conformity = vecdot(conformity, famous - self.popularity(drawn.negative))
        popular = counts[drawn.item] > counts[drawn.negative]
        whole = mean_over_ranks(F.softplus(-by_interest - by_conformity))
        parts = mean_over_ranks(F.softplus(-by_conformity) * popular + F.softplus(-by_interest) * ~popular)
        overlap = squared_cosine(interest, conformity) + squared_cosine(liked, famous)
        return {"cf": self.weight * (whole + self.parts_weight * parts + self.orthogonality * overlap)}


def squared_cosine(left: Tensor, right: Tensor) -> Tensor:
    """Mean over rows ``[rows, dim]``, a scalar."""
    return mean_over_ranks(F.cosine_similarity(left, right, dim=1, eps=EPS).square())
