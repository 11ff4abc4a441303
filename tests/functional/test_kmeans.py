"""k-means against scikit-learn, hand-made clusters and its own laws."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from adasid_exp.functional.kmeans import cluster_sums, kmeans, lloyd


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def clustered(centers=60, dim=16, rows=3000, noise=0.5):
    centroids = torch.randn(centers, dim, generator=generator())
    points = centroids[torch.randint(0, centers, (rows,), generator=generator(1))]
    return points + noise * torch.randn(rows, dim, generator=generator(2))


def inertia(points, centroids):
    return torch.cdist(points, centroids).min(1).values.square().mean().item()


def test_inertia_is_that_of_scikit_learn():
    # Reference: sklearn's k-means++ with as many Lloyd steps, both averaged over seeds.
    points = clustered()
    ours = [
        inertia(points, kmeans(points, size=50, iterations=20, generator=generator(s), spherical=False))
        for s in range(6)
    ]
    theirs = [
        inertia(
            points,
            torch.from_numpy(KMeans(50, n_init=1, max_iter=20, random_state=s).fit(points).cluster_centers_).float(),
        )
        for s in range(6)
    ]
    assert np.mean(ours) <= 1.01 * np.mean(theirs)


def test_separated_clusters_are_found_exactly():
    # By hand: four tight pairs of points; the centroids are their midpoints.
    corners = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = torch.cat([corners + 0.1, corners - 0.1])
    centroids = kmeans(points, size=4, iterations=10, generator=generator(), spherical=False)
    found = centroids[np.lexsort((centroids[:, 0].round(), centroids[:, 1].round()))]
    torch.testing.assert_close(found, corners, atol=1e-5, rtol=0)


def test_spherical_compares_by_direction_only():
    # Two directions whose points differ in length by 100: by cosine there are exactly two clusters.
    scale = torch.tensor([0.1, 1.0, 10.0]).repeat(2).unsqueeze(1)
    points = scale * torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3)
    centroids = kmeans(points, size=2, iterations=10, generator=generator(), spherical=True)
    torch.testing.assert_close(centroids.sort(dim=0).values, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))


def test_fixed_point_of_lloyd():
    # Law: after convergence every centroid is the mean of the points nearest to it.
    points = clustered(rows=600)
    centroids = kmeans(points, size=20, iterations=200, generator=generator(), spherical=False)
    codes = torch.cdist(points, centroids).argmin(1)
    means = torch.stack([points[codes == code].mean(0) for code in range(20)])
    torch.testing.assert_close(centroids, means, atol=1e-4, rtol=1e-4)


def test_no_cluster_is_empty_where_points_suffice():
    points = torch.cat([torch.zeros(500, 2), clustered(dim=2, rows=100)])
    centroids = kmeans(points, size=40, iterations=20, generator=generator(), spherical=False)
    assert torch.cdist(points, centroids).argmin(1).unique().numel() == 40


def test_fewer_points_than_clusters_repeats_points():
    points = torch.tensor([[0.0, 1.0], [5.0, 5.0]])
    centroids = kmeans(points, size=5, iterations=5, generator=generator(), spherical=False)
    assert centroids.shape == (5, 2)
    assert inertia(points, centroids) == 0.0


def test_same_generator_gives_same_centroids():
    points = clustered()
    first, again, other = (
        kmeans(points, size=10, iterations=5, generator=generator(s), spherical=False) for s in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_sums_by_cluster():
    # By hand.
    points, codes = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([2, 0, 2])
    assert cluster_sums(points, codes, 3).tolist() == [[2.0], [0.0], [5.0]]


@pytest.mark.parametrize("points", [torch.zeros(0, 3), torch.tensor([[float("nan")]]), torch.zeros(3)])
def test_unusable_points_raise(points):
    with pytest.raises(ValueError, match="k-means needs finite points"):
        kmeans(points, size=2, iterations=1, generator=generator(), spherical=False)


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_rows_that_bounds_spare_are_where_comparing_all_puts_them(noise, shift):
    # Law: so many single steps, each of which compares every row with every centroid.
    points = clustered(noise=noise) + shift
    centroids, codes = lloyd(points, points[:60], iterations=40, spherical=False)
    expected = points[:60]
    for _ in range(40):
        expected, nearest = lloyd(points, expected, iterations=1, spherical=False)
    assert torch.equal(codes, nearest)
    torch.testing.assert_close(centroids, expected)
