"""Residual clusters against plain k-means and by law."""

import math

import pytest
import torch

from adasid_exp.functional.codebook import code_counts, token_entropy
from adasid_exp.functional.kmeans import kmeans
from adasid_exp.nn.clustering import GreedyKMeans, PlainKMeans, SinkhornKMeans
from adasid_exp.nn.quantizers.residual_clusters import ResidualClusters, with_own_first
from adasid_exp.types import PAD

PLAIN = PlainKMeans(iterations=15)
BALANCED = [GreedyKMeans(iterations=10), SinkhornKMeans(iterations=10, epsilon=0.05, steps=30)]
EVERY = pytest.mark.parametrize("clustering", [PLAIN, *BALANCED], ids=lambda c: type(c).__name__)
INDEX = torch.arange(407)


def vectors(rows=407, dim=6):
    generator = torch.Generator().manual_seed(0)
    centers = 2 * torch.randn(12, dim, generator=generator)
    label = (torch.rand(rows, generator=generator) ** 2 * 12).long()
    return centers[label] + 0.5 * torch.randn(rows, dim, generator=generator)


def fitted(clustering, levels=3, size=10):
    model = ResidualClusters(clustering=clustering, levels=levels, size=size, dim=6, items=407)
    model.fit(vectors(), INDEX, torch.Generator().manual_seed(0))
    return model


def test_one_level_is_plain_kmeans():
    model, points = fitted(PLAIN, levels=1), vectors()
    words = kmeans(points, size=10, iterations=15, generator=torch.Generator().manual_seed(0), spherical=False)
    assert torch.equal(model.words[0], words)
    assert torch.equal(model.encode(points, INDEX)[:, 0], torch.cdist(points, words).argmin(1))


@EVERY
def test_levels_refine(clustering):
    # Law: centroids are means, so no level adds error over the whole catalogue.
    points = vectors()
    errors = [points.square().sum().item()]
    for levels in (1, 2, 3):
        model = fitted(clustering, levels=levels)
        errors.append((points - model.decode(model.encode(points, INDEX))).square().sum().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.5 * errors[0]


@pytest.mark.parametrize("clustering", BALANCED, ids=lambda c: type(c).__name__)
def test_balance(clustering):
    # Spec 5: sizes within 1 of each other, so the entropy is ln K up to rounding.
    codes = fitted(clustering).encode(vectors(), INDEX)
    counts = code_counts(codes, (10, 10, 10))
    assert bool((counts.max(1).values - counts.min(1).values <= 1).all())
    torch.testing.assert_close(token_entropy(counts), torch.full((3,), math.log(10)).double(), atol=1e-3, rtol=0)


@EVERY
def test_codes_do_not_depend_on_the_batch_and_are_nearest(clustering):
    model, points = fitted(clustering), vectors()
    whole, part = model.encode(points, INDEX), torch.tensor([400, 3, 77])
    assert torch.equal(model.encode(points[part], part), whole[part])
    assert torch.equal(model.distances(points, INDEX).argmin(2), whole)


def test_decoded_is_the_sum_of_centroids():
    model = fitted(PLAIN)
    codes = torch.tensor([[1, 2, 3], [0, 9, 4]])
    expected = torch.stack([sum(model.words[level, code] for level, code in enumerate(row)) for row in codes])
    torch.testing.assert_close(model.decode(codes), expected)


def test_own_cluster_comes_first_by_hair():
    distances = torch.tensor([[1.0, -2.0, 5.0], [1.0, -2.0, 5.0], [0.0, 3.0, 1.0]])
    marked = with_own_first(distances, torch.tensor([2, PAD, 0]))
    assert marked.argmin(1).tolist() == [2, 1, 0]
    assert torch.equal(marked[1], distances[1])
    torch.testing.assert_close(marked[0], torch.tensor([1.0, -2.0, -2.0]))
    assert bool((marked[2].sort().values == torch.tensor([marked[2, 0], 1.0, 3.0])).all())
    assert bool(marked.isfinite().all())


def test_plain_learns_from_a_sample_of_many_rows():
    points = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    words, codes = PLAIN(points, size=4, generator=torch.Generator().manual_seed(0))
    assert codes.numel() == 3000
    assert torch.equal(codes, torch.cdist(points, words).argmin(1))
    everything = kmeans(points, size=4, iterations=15, generator=torch.Generator().manual_seed(0), spherical=False)
    error, best = (torch.cdist(points, w).min(1).values.square().mean() for w in (words, everything))
    assert error < 1.05 * best
