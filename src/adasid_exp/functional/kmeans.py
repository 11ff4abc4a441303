"""k-means: greedy k-means++ start, Lloyd iterations, repair of empty clusters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SEED_ROWS = 40
"""Rows per cluster that the start looks at: enough for its inertia, and a bound on its cost for many rows."""

CACHED_ROWS = 2048
"""Rows compared at once on a CPU: their distances are still in the cache when the least is looked for."""


@torch.no_grad()
def kmeans(points: Tensor, *, size: int, iterations: int, generator: torch.Generator, spherical: bool) -> Tensor:
    """Centroids ``[size, dim]`` of ``points [rows, dim]``.

    ``spherical`` compares by cosine and gives centroids of unit length. The draws come from ``generator``
    (on the CPU). With fewer rows than clusters some centroids coincide.

    Raises:
        ValueError: for no rows, or rows that are not finite.
    """
    if points.ndim != 2 or points.shape[0] == 0 or not _all_finite(points):
        raise ValueError(f"k-means needs finite points [rows, dim], got shape {tuple(points.shape)}")
    if spherical:
        points = F.normalize(points, dim=1)
    return lloyd(points, _start(points, size, generator), iterations=iterations, spherical=spherical)[0]


def lloyd(points: Tensor, centroids: Tensor, *, iterations: int, spherical: bool) -> tuple[Tensor, Tensor]:
    """Lloyd steps from given ``centroids [size, dim]``, until no row changes its cluster.

    Returns:
        The centroids, and the clusters ``[rows]`` they are the means of, int64. An empty cluster's centroid lies
        on one of the rows that were farthest from theirs. ``spherical`` expects ``points`` of unit length.
    """
    codes = None
    for _ in range(iterations):
        before, (codes, scores) = codes, _nearest(points, centroids)
        if before is not None and torch.equal(before, codes):
            break
        centroids = _means(points, codes, scores, centroids.shape[0])
        if spherical:
            centroids = F.normalize(centroids, dim=1)
    return centroids, _nearest(points, centroids)[0] if codes is None else codes


def cluster_sums(points: Tensor, codes: Tensor, size: int) -> Tensor:
    """Sums of ``points [rows, dim]`` by ``codes [rows]``, ``[size, dim]``."""
    return points.new_zeros(size, points.shape[1]).index_add_(0, codes, points)


def _nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each row, and half the squared distance less half the row's own squared length."""
    lengths = 0.5 * centroids.square().sum(dim=1)
    rows = CACHED_ROWS if points.device.type == "cpu" else points.shape[0]
    parts = [_least(torch.addmm(lengths, part, centroids.T, alpha=-1.0)) for part in points.split(rows)]
    codes, scores = zip(*parts, strict=True)
    return torch.cat(codes), torch.cat(scores)


def _least(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Where in each row the least entry is, of equal ones the first, and that entry; ``[rows]`` each."""
    if scores.device.type == "cpu":  # numpy takes a third of the time of torch
        codes = torch.from_numpy(scores.detach().numpy().argmin(axis=1))
    else:
        codes = scores.argmin(dim=1)
    return codes, scores.gather(1, codes.unsqueeze(1)).squeeze(1)


def _all_finite(points: Tensor) -> bool:
    """Whether no entry is infinite or NaN: both reach the extremes, which cost a tenth of looking at each entry."""
    return points.numel() == 0 or bool(torch.stack(points.aminmax()).isfinite().all())


def _means(points: Tensor, codes: Tensor, scores: Tensor, size: int) -> Tensor:
    """Cluster means; an empty cluster moves onto one of the rows that are farthest from their centroid."""
    counts = torch.bincount(codes, minlength=size)
    means = cluster_sums(points, codes, size) / counts.clamp(min=1).unsqueeze(1)
    empty = counts == 0
    if bool(empty.any()):
        distance = scores + 0.5 * points.square().sum(dim=1)
        spare = distance.topk(min(int(empty.sum()), points.shape[0])).indices
        holes = empty.nonzero().squeeze(1)[: spare.numel()]
        means[holes] = points[spare]
    return means


def _start(points: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007): of a few draws by squared distance keep the best."""
    rows = torch.randperm(points.shape[0], generator=generator)[: SEED_ROWS * size].to(points.device)
    sample = points[rows]
    lengths = sample.square().sum(dim=1)
    trials = 2 + int(math.log(size))
    draws = torch.rand(size, trials, generator=generator).to(points)
    chosen = [sample[:1]]
    distance = _to_candidates(sample, lengths, sample[:1]).squeeze(0)
    for step in range(1, size):
        reached = distance.cumsum(dim=0)
        picks = torch.searchsorted(reached, draws[step] * reached[-1]).clamp(max=sample.shape[0] - 1)
        candidates = sample[picks]
        shrunk = torch.minimum(distance, _to_candidates(sample, lengths, candidates))
        best = shrunk.sum(dim=1).argmin().unsqueeze(0)
        distance = shrunk.index_select(0, best).squeeze(0)
        chosen.append(candidates.index_select(0, best))
    return torch.cat(chosen)


def _to_candidates(sample: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
    """Squared distances, ``[candidates, rows]``."""
    own = candidates.square().sum(dim=1, keepdim=True)
    return torch.addmm(lengths + own, candidates, sample.T, alpha=-2.0).clamp_(min=0.0)
