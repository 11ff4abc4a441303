"""k-means whose clusters keep within a least and a greatest size; several sets of points at once."""

from __future__ import annotations

import torch
from torch import Tensor

GAIN = 1e-9
"""A detour counts as shorter from this share of the largest cost on: rounding must not close a circle."""


@torch.no_grad()
def constrained_kmeans(
    points: Tensor, centroids: Tensor, *, smallest: int, largest: int, iterations: int
) -> tuple[Tensor, Tensor]:
    """Lloyd steps from given centroids, each with an assignment that keeps to the sizes.

    Args:
        points: ``[sets, rows, dim]``.
        centroids: ``[sets, clusters, dim]``.
        smallest, largest: rows of a cluster.
        iterations: at most; fewer once no row changes its cluster.

    Returns:
        Clusters ``[sets, rows]``, int64, and their means ``[sets, clusters, dim]`` (an empty one keeps its centroid).

    Raises:
        ValueError: for sizes that no assignment can keep.
    """
    points, centroids = points.double(), centroids.double()
    codes = None
    for _ in range(max(iterations, 1)):
        before, codes = codes, constrained_assign(squared_distances(points, centroids), smallest, largest)
        if before is not None and torch.equal(before, codes):
            break
        centroids = cluster_means(points, codes, centroids)
    assert codes is not None
    return codes, centroids


@torch.no_grad()
def constrained_assign(costs: Tensor, smallest: int, largest: int) -> Tensor:
    """The cheapest assignment of rows to clusters of ``smallest`` to ``largest`` rows, exactly.

    Every row starts in its cheapest cluster. Then one row after the other leaves a cluster that is too large, and
    one after the other enters one that is too small, each along the cheapest chain of moves (successive shortest
    paths of a minimum-cost flow, Ahuja, Magnanti and Orlin 1993, section 9.7).

    Args:
        costs: ``[sets, rows, clusters]``, finite.
        smallest, largest: rows of a cluster.

    Returns:
        Clusters ``[sets, rows]``, int64.

    Raises:
        ValueError: for sizes that no assignment can keep.
    """
    rows, clusters = costs.shape[1:]
    if not smallest * clusters <= rows <= largest * clusters:
        raise ValueError(f"{clusters} clusters of {smallest} to {largest} rows cannot hold {rows} rows")
    costs = costs.double()
    codes = costs.argmin(dim=2)
    while True:
        counts = cluster_counts(codes, clusters)
        over, under = counts > largest, counts < smallest
        if not bool((over | under).any()):
            return codes
        crowded = over.any(dim=1, keepdim=True)
        givers = torch.where(crowded, over, under.any(dim=1, keepdim=True) & (counts > smallest))
        takers = torch.where(crowded, counts < largest, under)
        codes = shift(costs, codes, givers, takers)


def shift(costs: Tensor, codes: Tensor, givers: Tensor, takers: Tensor) -> Tensor:
    """``codes [sets, rows]`` after one row less in a giver and one more in a taker, by the cheapest chain of moves.

    A set without givers stays as it is; ``givers`` and ``takers`` are bool ``[sets, clusters]``.
    """
    prices, movers = cheapest_moves(costs, codes)
    totals, before = cheapest_chains(prices, givers)
    here = totals.masked_fill(~takers, torch.inf).argmin(dim=1, keepdim=True)
    codes = codes.clone()
    while True:
        origin = before.gather(1, here)
        going = ((origin >= 0) & givers.any(dim=1, keepdim=True)).squeeze(1).nonzero().squeeze(1)
        if going.numel() == 0:
            return codes
        source, goal = origin[going, 0], here[going, 0]
        codes[going, movers[going, source, goal]] = goal
        here[going] = origin[going]


def cheapest_moves(costs: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """What moving one row from a cluster to another costs at least, and which row; ``[sets, clusters, clusters]``."""
    extra = costs - costs.gather(2, codes.unsqueeze(2))
    members = codes.unsqueeze(2) == torch.arange(costs.shape[2], device=costs.device)
    best = torch.where(members.unsqueeze(3), extra.unsqueeze(2), torch.inf).min(dim=1)
    return best.values, best.indices


def cheapest_chains(prices: Tensor, givers: Tensor) -> tuple[Tensor, Tensor]:
    """Cheapest chains of moves from any giver to each cluster (Bellman and Ford).

    Returns:
        Costs ``[sets, clusters]``, and the cluster before each in its chain, -1 where a chain begins.
    """
    totals = torch.where(givers, 0.0, torch.inf).to(prices)
    before = torch.full_like(givers, -1, dtype=torch.int64)
    gain = GAIN * prices.masked_fill(prices.isinf(), 0.0).abs().amax(dim=(1, 2)).unsqueeze(1)
    for _ in range(prices.shape[1] - 1):
        through = (totals.unsqueeze(2) + prices).min(dim=1)
        shorter = through.values < totals - gain
        if not bool(shorter.any()):
            break
        totals = torch.where(shorter, through.values, totals)
        before = torch.where(shorter, through.indices, before)
    return totals, before


def cluster_means(points: Tensor, codes: Tensor, centroids: Tensor) -> Tensor:
    """Means of ``points [sets, rows, dim]`` by cluster; an empty one keeps its centroid."""
    sums = torch.zeros_like(centroids).scatter_add_(1, codes.unsqueeze(2).expand_as(points), points)
    counts = cluster_counts(codes, centroids.shape[1]).unsqueeze(2)
    return torch.where(counts > 0, sums / counts.clamp(min=1), centroids)


def cluster_counts(codes: Tensor, clusters: int) -> Tensor:
    """Rows of each cluster, int64 ``[sets, clusters]``."""
    counts = torch.zeros(codes.shape[0], clusters, dtype=torch.int64, device=codes.device)
    return counts.scatter_add_(1, codes, torch.ones_like(codes))


def squared_distances(points: Tensor, centroids: Tensor) -> Tensor:
    """Of ``[sets, rows, dim]`` to ``[sets, clusters, dim]``, ``[sets, rows, clusters]``."""
    lengths = points.square().sum(dim=2, keepdim=True) + centroids.square().sum(dim=2).unsqueeze(1)
    return torch.baddbmm(lengths, points, centroids.transpose(1, 2), alpha=-2.0).clamp_(min=0.0)
