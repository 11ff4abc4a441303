"""Ways to cluster the rows of a catalogue: each row to its nearest centroid, or clusters of equal size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

import torch
from torch import Tensor

from adasid_exp.functional.balanced_kmeans import balanced_lloyd, fill_in_turn, sinkhorn_assignment
from adasid_exp.functional.kmeans import kmeans, lloyd

ROWS = 256
"""Rows per cluster that plain k-means learns from, as faiss does; all are assigned."""

START_ITERATIONS = 10
"""Plain Lloyd steps before clusters are made equal: they begin where the rows are dense."""


class Clustering(ABC):
    """Centroids and clusters of points.

    Attributes:
        balanced: whether a row's cluster is a matter of all rows; if not, it is the nearest centroid's.
    """

    balanced: bool

    @abstractmethod
    def __call__(self, points: Tensor, *, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Centroids ``[size, dim]`` of ``points [rows, dim]`` and each row's cluster, int64 ``[rows]``."""


class PlainKMeans(Clustering):
    """k-means from a k-means++ start.

    Args:
        iterations: Lloyd steps.
    """

    balanced = False

    def __init__(self, *, iterations: int) -> None:
        self.iterations = iterations

    def __call__(self, points: Tensor, *, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sample = points
        if points.shape[0] > ROWS * size:
            sample = points[torch.randperm(points.shape[0], generator=generator)[: ROWS * size].to(points.device)]
        centroids = kmeans(sample, size=size, iterations=self.iterations, generator=generator, spherical=False)
        return centroids, lloyd(points, centroids, iterations=0, spherical=False)[1]


class GreedyKMeans(Clustering):
    """Equal clusters that take their rows in turn (OneRec, arXiv 2502.18965).

    Args:
        iterations: most rounds of taking rows and moving centroids.
    """

    balanced = True

    def __init__(self, *, iterations: int) -> None:
        self.iterations = iterations

    def __call__(self, points: Tensor, *, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        start = kmeans(points, size=size, iterations=START_ITERATIONS, generator=generator, spherical=False)
        return balanced_lloyd(points, start, iterations=self.iterations, assign=fill_in_turn)


class SinkhornKMeans(Clustering):
    """Equal clusters by entropic transport, rounded (as MiniOneRec's uniform mapping).

    Args:
        iterations: most rounds of assigning rows and moving centroids.
        epsilon: entropy's weight as a share of the mean distance above each row's least.
        steps: Sinkhorn iterations of a round.
    """

    balanced = True

    def __init__(self, *, iterations: int, epsilon: float, steps: int) -> None:
        self.iterations = iterations
        self.assign = partial(sinkhorn_assignment, epsilon=epsilon, steps=steps)

    def __call__(self, points: Tensor, *, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        start = kmeans(points, size=size, iterations=START_ITERATIONS, generator=generator, spherical=False)
        return balanced_lloyd(points, start, iterations=self.iterations, assign=self.assign)
