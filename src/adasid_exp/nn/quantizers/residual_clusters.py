"""Residual quantization without gradient: level after level the residuals of the whole catalogue are clustered."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.nn.clustering import Clustering
from adasid_exp.types import PAD


class ResidualClusters(nn.Module):
    """Centroids of every level, and of balanced clusters who belongs to them.

    An item's cluster in a balanced clustering is a matter of the whole catalogue, so it is kept by catalogue index.

    Args:
        clustering: of a level's residuals.
        levels: codes of an item.
        size: clusters of a level.
        dim: width of a vector.
        items: size of the catalogue.
    """

    words: Tensor
    members: Tensor

    def __init__(self, *, clustering: Clustering, levels: int, size: int, dim: int, items: int) -> None:
        super().__init__()
        self.clustering = clustering
        self.register_buffer("words", torch.zeros(levels, size, dim))
        self.by_member = clustering.balanced
        kept = items if self.by_member else 0
        self.register_buffer("members", torch.full((kept, levels), PAD, dtype=torch.int32))

    def fit(self, vectors: Tensor, index: Tensor, generator: torch.Generator) -> None:
        """Cluster ``vectors [items, dim]`` of the whole catalogue, whose indices are ``index [items]``."""
        residual = vectors
        for level, words in enumerate(self.words):
            centroids, codes = self.clustering(residual, size=words.shape[0], generator=generator)
            words.copy_(centroids)
            if self.clustering.balanced:
                self.members[index, level] = codes.int()
            residual = residual - words[codes]

    def forget_members(self) -> None:
        """Items to come are not those that were clustered: each goes to its nearest centroid."""
        self.members, self.by_member = self.members[:0], False

    def encode(self, vectors: Tensor, index: Tensor) -> Tensor:
        """Codes of ``vectors [items, dim]``, int64 ``[items, levels]``."""
        return self.distances(vectors, index).argmin(dim=2)

    def distances(self, vectors: Tensor, index: Tensor) -> Tensor:
        """Squared distances of each level's residual, less its own squared length, ``[items, levels, size]``.

        In balanced clusters an item's own one is put before the nearest, by the least number there is.
        """
        residual, levels = vectors, []
        for level, words in enumerate(self.words):
            distances = torch.addmm(words.square().sum(dim=1), residual, words.T, alpha=-2.0)
            if self.by_member:
                distances = with_own_first(distances, self.members[index, level].long())
            levels.append(distances)
            residual = residual - words[distances.argmin(dim=1)]
        return torch.stack(levels, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Sums of the centroids of ``codes [items, levels]``, ``[items, dim]``."""
        levels = torch.arange(len(self.words), device=codes.device)
        return self.words[levels, codes].sum(dim=1)


def with_own_first(distances: Tensor, own: Tensor) -> Tensor:
    """``distances [items, size]`` with the entry ``own [items]`` just below the row's least; ``PAD`` has none."""
    least = distances.min(dim=1, keepdim=True).values
    below = torch.nextafter(least, least.new_tensor(-torch.inf))
    column = own.clamp(min=0).unsqueeze(1)
    value = torch.where(own.unsqueeze(1) == PAD, distances.gather(1, column), below)
    return distances.scatter(1, column, value)
