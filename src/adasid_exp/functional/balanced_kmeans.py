"""k-means whose clusters are all of one size, give or take one row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adasid_exp.functional.kmeans import cluster_sums


def balanced_lloyd(
    points: Tensor, centroids: Tensor, *, iterations: int, assign: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Lloyd steps under a rule of assignment, until no row changes its cluster.

    Args:
        points: ``[rows, dim]``.
        centroids: ``[size, dim]`` to begin with.
        iterations: most steps; at least 1.
        assign: clusters ``[rows]`` from squared distances ``[rows, size]``.

    Returns:
        Centroids, and the clusters ``[rows]`` they are the means of, int64.
    """
    codes = assign(_distances(points, centroids))
    for _ in range(iterations - 1):
        centroids = _means(points, codes, centroids)
        before, codes = codes, assign(_distances(points, centroids))
        if torch.equal(before, codes):
            break
    return _means(points, codes, centroids), codes


def fill_in_turn(distances: Tensor) -> Tensor:
    """Cluster after cluster takes its share of the nearest rows still free (OneRec, arXiv 2502.18965, algorithm 1).

    Args:
        distances: ``[rows, size]``.

    Returns:
        Clusters ``[rows]``, int64; the first ``rows % size`` hold one row more.
    """
    rows, size = distances.shape
    columns = distances.T.contiguous()
    codes = torch.zeros(rows, dtype=torch.int64, device=distances.device)
    for cluster in range(size):
        share = rows // size + (cluster < rows % size)
        chosen = columns[cluster].topk(share, largest=False).indices
        codes[chosen] = cluster
        columns[:, chosen] = torch.inf
    return codes


def sinkhorn_assignment(distances: Tensor, *, epsilon: float, steps: int) -> Tensor:
    """Rows go where the entropic transport to equal clusters makes it cheapest, rounded to equal sizes.

    Args:
        distances: ``[rows, size]``.
        epsilon: entropy's weight, as a share of the mean distance above each row's least.
        steps: Sinkhorn iterations.

    Returns:
        Clusters ``[rows]``, int64, of sizes that differ by 1 at most.
    """
    return rounded_to_equal_sizes(distances - prices(distances, epsilon=epsilon, steps=steps))


def prices(distances: Tensor, *, epsilon: float, steps: int) -> Tensor:
    """What a cluster pays a row for coming so that all fill alike: the column potential of Sinkhorn, ``[size]``."""
    rows, size = distances.shape
    above = distances - distances.min(dim=1, keepdim=True).values
    scale = (epsilon * above.mean()).clamp(min=1e-12)
    kernel = (-above / scale).exp()
    tiny = torch.finfo(kernel.dtype).tiny
    inflow = torch.ones(size, dtype=kernel.dtype, device=kernel.device)
    for _ in range(steps):
        outflow = 1.0 / (kernel @ inflow).clamp(min=tiny)
        inflow = (rows / size) / (outflow @ kernel).clamp(min=tiny)
        inflow = inflow / inflow.max()  # only ratios count
    return scale * inflow.clamp(min=tiny).log()


def rounded_to_equal_sizes(costs: Tensor) -> Tensor:
    """Every row to a cheap cluster ``[rows]``, int64, sizes equal up to 1; ``costs [rows, size]``.

    All free rows ask for their cheapest cluster with room; a cluster asked by too many takes those that would lose
    most elsewhere. First every cluster fills to ``rows // size``, then the rest spreads, one a cluster.
    """
    rows, size = costs.shape
    codes = torch.full((rows,), -1, dtype=torch.int64, device=costs.device)
    for share in (rows // size, 1):
        room = torch.full((size,), share, dtype=torch.int64, device=costs.device)
        _fill(costs, codes, room)
    return codes


def _fill(costs: Tensor, codes: Tensor, room: Tensor) -> None:
    """Deals rows without a code out until all have one or no cluster has ``room [size]``; writes both in place."""
    while bool((codes < 0).any()) and bool((room > 0).any()):
        free = (codes < 0).nonzero().squeeze(1)
        open_costs = costs[free].masked_fill(room == 0, torch.inf)
        wanted, loss = _first_choice(open_costs)
        order = loss.argsort(descending=True, stable=True)
        order = order[wanted[order].argsort(stable=True)]
        asked = torch.bincount(wanted, minlength=room.numel())
        turn = torch.arange(order.numel(), device=room.device) - (asked.cumsum(0) - asked)[wanted[order]]
        taken = order[turn < room[wanted[order]]]
        codes[free[taken]] = wanted[taken]
        room -= torch.minimum(asked, room)


def _first_choice(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Cheapest cluster of each row and how much dearer the next one is, ``[rows]`` each."""
    if costs.shape[1] == 1:
        return torch.zeros(len(costs), dtype=torch.int64, device=costs.device), costs.squeeze(1)
    best = costs.topk(2, dim=1, largest=False)
    return best.indices[:, 0], best.values[:, 1] - best.values[:, 0]


def _distances(points: Tensor, centroids: Tensor) -> Tensor:
    """Squared distances less the points' own squared lengths, ``[rows, size]``."""
    return torch.addmm(centroids.square().sum(dim=1), points, centroids.T, alpha=-2.0)


def _means(points: Tensor, codes: Tensor, centroids: Tensor) -> Tensor:
    """Cluster means; a cluster without rows (fewer rows than clusters) stays where it is."""
    size = centroids.shape[0]
    counts = torch.bincount(codes, minlength=size).unsqueeze(1)
    return torch.where(counts > 0, cluster_sums(points, codes, size) / counts.clamp(min=1), centroids)
