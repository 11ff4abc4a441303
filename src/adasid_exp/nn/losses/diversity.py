"""LETTER's diversity regularization (arXiv 2405.07314)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.functional.constrained_kmeans import cluster_means, constrained_kmeans
from adasid_exp.functional.diversity import cluster_partners, diversity_loss
from adasid_exp.functional.kmeans import kmeans
from adasid_exp.functional.ranks import mean_over_ranks, place_among
from adasid_exp.types import UserError


class Diversity(nn.Module):
    """Codewords in clusters of bounded size; each is drawn to those of its cluster. With weight 0 no term.

    A cluster has at least ``min(smallest, size // (2 * clusters))`` codewords. There are at most half as many
    clusters as codewords: a codeword alone in its cluster has no partner.

    Args:
        levels: codebooks.
        size: codewords of each.
        clusters: of each codebook.
        smallest, largest: bounds of a cluster's size.
        iterations: Lloyd steps of a clustering, at most.
        weight: of this term in the total loss.

    Raises:
        UserError: when the clusters cannot hold the codewords.
    """

    clusters: Tensor

    def __init__(
        self,
        *,
        levels: int,
        size: int,
        clusters: int,
        smallest: int,
        largest: int,
        iterations: int,
        weight: float,
    ) -> None:
        super().__init__()
        self.count = max(1, min(clusters, size // 2))
        if self.count * largest < size:
            raise UserError(
                f"tokenizer.diversity.largest={largest}: {self.count} clusters cannot hold {size} codewords;"
                f" raise it to {-(-size // self.count)} or more, or raise tokenizer.diversity.clusters"
            )
        self.smallest, self.largest = min(smallest, size // (2 * self.count)), largest
        self.iterations, self.weight = iterations, weight
        self.register_buffer("clusters", torch.zeros(levels, size, dtype=torch.int64))

    def forward(self, words: Tensor, codes: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Term by name, from ``words [levels, size, dim]`` and ``codes [items, levels]``; draws on the CPU."""
        items, levels = codes.shape
        first, total = place_among(items)
        draws = torch.rand(total, levels, generator=generator)[first : first + items].to(codes.device)
        partners = cluster_partners(codes, self.clusters, draws)
        return {"diversity": self.weight * mean_over_ranks(diversity_loss(words, codes, partners).T)}

    @torch.no_grad()
    def start(self, words: Tensor, generator: torch.Generator) -> None:
        """Cluster ``words [levels, size, dim]`` from a k-means++ start."""
        points = words.cpu()
        centroids = [
            kmeans(level, size=self.count, iterations=1, generator=generator, spherical=False) for level in points
        ]
        self._cluster(points, torch.stack(centroids))

    @torch.no_grad()
    def follow(self, words: Tensor) -> None:
        """Cluster ``words [levels, size, dim]`` anew, from the means of the clusters that there are."""
        points, codes = words.cpu(), self.clusters.cpu()
        # A cluster that was empty begins at the mean of all.
        empty = points.mean(dim=1, keepdim=True).expand(-1, self.count, -1)
        self._cluster(points, cluster_means(points, codes, empty))

    def _cluster(self, points: Tensor, centroids: Tensor) -> None:
        # On the CPU: hundreds of tiny dependent operations, for which a device would only wait.
        codes, _ = constrained_kmeans(
            points, centroids, smallest=self.smallest, largest=self.largest, iterations=self.iterations
        )
        self.clusters.copy_(codes)
