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

FEW = 0.05
"""While more rows than this share change their cluster, centroids move too far for bounds to spare comparisons."""

MANY = 0.7
"""Where bounds leave more than this share of the rows to compare, they cost more than they spare: no more of them."""


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


@torch.no_grad()
def lloyd(points: Tensor, centroids: Tensor, *, iterations: int, spherical: bool) -> tuple[Tensor, Tensor]:
    """Lloyd steps from given ``centroids [size, dim]``, until no row changes its cluster.

    Once few rows do, on a CPU, a row is compared again only when the centroids have moved by as much as its own was
    nearer than the next (Hamerly 2010, with one bound a row): the same clusters for less.

    Returns:
        The centroids, and the clusters ``[rows]`` they are the means of, int64. An empty cluster's centroid lies
        on one of the rows that were farthest from theirs. ``spherical`` expects ``points`` of unit length.
    """
    rows = points.shape[0]
    few = FEW * rows if points.device.type == "cpu" else 0.0
    codes, slack, changed = _nearest(points, centroids)[0], None, rows
    for step in range(iterations):
        before, centroids = centroids, _means(points, codes, centroids, spherical)
        if step == iterations - 1:
            break
        if slack is not None:
            slack -= _closing((centroids - before).norm(dim=1)).index_select(0, codes)
            if int((slack <= 0).sum()) > MANY * rows:
                slack, few = None, 0.0
        if slack is not None:
            changed = _reassign(points, centroids, codes, slack)
        else:
            former = codes
            codes, slack = _nearest_by(points, centroids) if changed < few else (_nearest(points, centroids)[0], None)
            changed = int((codes != former).sum())
        if not changed:
            break
    return centroids, codes


def cluster_sums(points: Tensor, codes: Tensor, size: int) -> Tensor:
    """Sums of ``points [rows, dim]`` by ``codes [rows]``, ``[size, dim]``."""
    return points.new_zeros(size, points.shape[1]).index_add_(0, codes, points)


def _reassign(points: Tensor, centroids: Tensor, codes: Tensor, slack: Tensor) -> int:
    """How many rows change their cluster; ``codes`` and ``slack`` of rows without slack are renewed in place."""
    rows = (slack <= 0).nonzero().squeeze(1)
    found, renewed = _nearest_by(points.index_select(0, rows), centroids)
    changed = int((codes.index_select(0, rows) != found).sum())
    codes.index_copy_(0, rows, found)
    slack.index_copy_(0, rows, renewed)
    return changed


def _closing(drift: Tensor) -> Tensor:
    """By how much a row of each cluster comes closer to changing it, where centroids move by ``drift [size]``."""
    own = torch.eye(drift.numel(), dtype=torch.bool, device=drift.device)
    return drift + drift.expand(own.shape).masked_fill(own, 0.0).amax(dim=1)


def _nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each row, and half the squared distance less half the row's own squared length."""
    codes, scores = zip(*(_least(_scores(part, centroids)) for part in _cached(points)), strict=True)
    return torch.cat(codes), torch.cat(scores)


def _nearest_by(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each row, and by how much it is surely nearer than the next, rounding allowed for."""
    parts = [_two_least(_scores(part, centroids)) for part in _cached(points)]
    codes, least, second = (torch.cat(values) for values in zip(*parts, strict=True))
    lengths = points.square().sum(dim=1)
    error = points.shape[1] * torch.finfo(points.dtype).eps * (lengths + centroids.square().sum(dim=1).amax())
    upper = least.mul_(2.0).add_(lengths).add_(error).clamp_(min=0.0).sqrt_()
    return codes, second.mul_(2.0).add_(lengths).sub_(error).clamp_(min=0.0).sqrt_().sub_(upper)


def _two_least(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where in each row the least entry is, that entry and the next; overwrites ``scores``."""
    codes, least = _least(scores)
    return codes, least, scores.scatter_(1, codes.unsqueeze(1), torch.inf).amin(dim=1)


def _scores(points: Tensor, centroids: Tensor) -> Tensor:
    """Half the squared distances less half the rows' own squared lengths, ``[rows, size]``."""
    return torch.addmm(0.5 * centroids.square().sum(dim=1), points, centroids.T, alpha=-1.0)


def _cached(points: Tensor) -> tuple[Tensor, ...]:
    return points.split(CACHED_ROWS if points.device.type == "cpu" else max(points.shape[0], 1))


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


def _means(points: Tensor, codes: Tensor, centroids: Tensor, spherical: bool) -> Tensor:
    """Cluster means; an empty cluster moves onto one of the rows that are farthest from their centroid."""
    size = centroids.shape[0]
    counts = torch.bincount(codes, minlength=size)
    means = cluster_sums(points, codes, size) / counts.clamp(min=1).unsqueeze(1)
    empty = counts == 0
    if bool(empty.any()):
        distance = _nearest(points, centroids)[1] + 0.5 * points.square().sum(dim=1)
        spare = distance.topk(min(int(empty.sum()), points.shape[0])).indices
        holes = empty.nonzero().squeeze(1)[: spare.numel()]
        means[holes] = points[spare]
    return F.normalize(means, dim=1) if spherical else means


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
