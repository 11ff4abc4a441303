"""Clusters of equal size, by hand, by law and against the exact assignment of scipy."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from adasid_exp.functional.balanced_kmeans import (
    balanced_lloyd,
    fill_in_turn,
    prices,
    rounded_to_equal_sizes,
    sinkhorn_assignment,
)


def skewed(rows=203, size=10):
    """Most rows near few of the centers."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(size, 4, generator=generator)
    label = (torch.rand(rows, generator=generator) ** 3 * size).long()
    points = centers[label] + 0.4 * torch.randn(rows, 4, generator=generator)
    return points, centers


def squared(points, centers):
    return (points[:, None] - centers).square().sum(2)


def by_sinkhorn(distances):
    return sinkhorn_assignment(distances, epsilon=0.05, steps=100)


RULES = pytest.mark.parametrize("rule", [fill_in_turn, by_sinkhorn, rounded_to_equal_sizes])


@RULES
@pytest.mark.parametrize(("rows", "size"), [(203, 10), (200, 10), (9, 10), (10, 10), (7, 1)])
def test_sizes_differ_by_one_at_most(rule, rows, size):
    points, centers = skewed(rows, size)
    codes = rule(squared(points, centers))
    counts = torch.bincount(codes, minlength=size)
    assert counts.sum() == rows
    assert counts.max() - counts.min() <= 1


def test_turns_by_hand():
    # Cluster 0 takes rows 1 and 2, though row 2 is nearer to cluster 1, which takes what is left.
    distances = torch.tensor([[5.0, 9.0], [0.0, 3.0], [1.0, 0.0], [6.0, 0.0]])
    assert fill_in_turn(distances).tolist() == [1, 0, 0, 1]


def test_rounding_by_hand():
    # All want cluster 0, which has room for two: rows 0 and 3 would lose most elsewhere.
    costs = torch.tensor([[0.0, 9.0], [0.0, 1.0], [0.0, 2.0], [0.0, 8.0]])
    assert rounded_to_equal_sizes(costs).tolist() == [0, 1, 1, 0]


def test_sinkhorn_is_near_the_best_assignment():
    # Oracle: the exact balanced assignment; rounding and entropy cost 5 % at most, taking turns half as much again.
    points, centers = skewed(200, 10)
    distances = squared(points, centers)
    rows, columns = linear_sum_assignment(np.repeat(distances.numpy(), 20, axis=1))
    best = distances[rows, columns // 20].sum()
    cost = distances.gather(1, by_sinkhorn(distances)[:, None]).sum()
    turns = distances.gather(1, fill_in_turn(distances)[:, None]).sum()
    assert best <= cost * (1 + 1e-6)
    assert cost < 1.05 * best
    assert turns > 1.2 * best


def test_prices_balance_the_transport():
    # Law: at the potentials, entropic assignment sends the same mass to every cluster.
    points, centers = skewed(200, 10)
    distances = squared(points, centers)
    above = distances - distances.min(1, keepdim=True).values
    share = ((prices(distances, epsilon=0.2, steps=500) - above) / (0.2 * above.mean())).softmax(1)
    torch.testing.assert_close(share.sum(0), torch.full((10,), 20.0), rtol=1e-2, atol=0)


def test_balanced_clusters_already_equal_are_found():
    # Law: where the clusters are of one size, balance costs nothing.
    centers = 10 * torch.eye(5)
    points = centers.repeat_interleave(6, 0) + 0.1 * torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    for rule in (fill_in_turn, by_sinkhorn):
        words, codes = balanced_lloyd(points, centers, iterations=5, assign=rule)
        assert torch.equal(codes, torch.arange(5).repeat_interleave(6))
        torch.testing.assert_close(words, points.view(5, 6, 5).mean(1))
