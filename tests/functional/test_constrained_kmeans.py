"""Constrained k-means against an exact linear program and against laws."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from adasid_exp.functional.constrained_kmeans import (
    cluster_counts,
    constrained_assign,
    constrained_kmeans,
    squared_distances,
)
from adasid_exp.functional.kmeans import lloyd


def points(sets, rows, dim=4, seed=0):
    """Lopsided clouds: most rows in one heap, so that bounds on sizes bind."""
    generator = torch.Generator().manual_seed(seed)
    heap = 0.3 * torch.randn(sets, rows - rows // 4, dim, generator=generator)
    return torch.cat([heap, 3 * torch.randn(sets, rows // 4, dim, generator=generator)], dim=1)


def exact_cost(costs, smallest, largest):
    """The transport problem as a linear program, whose vertices are whole numbers."""
    rows, clusters = costs.shape
    each_row = np.kron(np.eye(rows), np.ones(clusters))
    each_cluster = np.kron(np.ones(rows), np.eye(clusters))
    bounds = np.concatenate([np.full(clusters, largest), np.full(clusters, -smallest)])
    result = linprog(
        costs.reshape(-1),
        A_ub=np.concatenate([each_cluster, -each_cluster]),
        b_ub=bounds,
        A_eq=each_row,
        b_eq=np.ones(rows),
    )
    return result.fun


@pytest.mark.parametrize(("smallest", "largest"), [(5, 60), (5, 12), (8, 8), (0, 9), (0, 64), (7, 64)])
def test_an_assignment_costs_what_the_linear_program_says(smallest, largest):
    data = points(3, 64)
    costs = squared_distances(data.double(), data[:, ::8].double())
    codes = constrained_assign(costs, smallest, largest)
    counts = cluster_counts(codes, 8)
    assert int(counts.min()) >= smallest
    assert int(counts.max()) <= largest
    for own, table in zip(codes, costs, strict=True):
        ours = table.gather(1, own.unsqueeze(1)).sum().item()
        assert ours == pytest.approx(exact_cost(table.numpy(), smallest, largest), rel=1e-9)


def test_loose_bounds_are_plain_k_means():
    # Law: with bounds that never bind every step is Lloyd's.
    data = points(2, 80)
    start = data[:, :5]
    codes, centroids = constrained_kmeans(data, start, smallest=0, largest=80, iterations=6)
    for rows, first, own, means in zip(data, start, codes, centroids, strict=True):
        expected, clusters = lloyd(rows, first, iterations=6, spherical=False)
        assert torch.equal(own, clusters)
        torch.testing.assert_close(means.float(), expected)


def test_iterations_lower_the_cost_and_keep_the_sizes():
    data = points(4, 100, seed=1)
    inertia = []
    for iterations in (1, 3, 20):
        codes, centroids = constrained_kmeans(data, data[:, :10], smallest=5, largest=14, iterations=iterations)
        near = centroids.gather(1, codes.unsqueeze(2).expand(-1, -1, 4))
        inertia.append((data - near).square().sum().item())
        counts = cluster_counts(codes, 10)
        assert int(counts.min()) >= 5
        assert int(counts.max()) <= 14
    assert inertia[0] > inertia[1] >= inertia[2]


def test_equal_rows_are_shared_out():
    # Ties everywhere: no chain of moves may turn in a circle.
    codes = constrained_assign(torch.zeros(2, 30, 6), 5, 5)
    assert cluster_counts(codes, 6).tolist() == [[5] * 6] * 2


def test_sizes_that_cannot_be_kept_are_refused():
    with pytest.raises(ValueError, match="4 clusters of 3 to 9 rows cannot hold 10 rows"):
        constrained_assign(torch.zeros(1, 10, 4), 3, 9)
