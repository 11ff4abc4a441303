"""Product quantization and its rotation against laws, plain k-means and faiss."""

import warnings

import pytest
import torch

from adasid_exp.functional.kmeans import kmeans
from adasid_exp.functional.product_quantization import (
    balanced_order,
    optimized_product_quantizer,
    principal_axes,
    procrustes,
    product_decode,
    product_distances,
    product_kmeans,
)


def correlated(rows=1500, dim=24, clusters=40):
    """Clusters whose coordinates depend on each other, so that a rotation has something to gain."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(2.0, 0.1, dim)
    centers = scale * torch.randn(clusters, dim, generator=generator)
    label = torch.randint(0, clusters, (rows,), generator=generator)
    points = centers[label] + 0.5 * scale * torch.randn(rows, dim, generator=generator)
    mix, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator))
    return (points - points.mean(0)) @ mix


def learn(points, slots=4, size=16, alternations=20):
    return optimized_product_quantizer(
        points,
        slots=slots,
        size=size,
        start_iterations=8,
        alternations=alternations,
        iterations=2,
        generator=torch.Generator().manual_seed(0),
    )


def error(points, learnt):
    rotated = points @ learnt.rotation.T
    codes = product_distances(rotated, learnt.codewords).argmin(2)
    decoded = product_decode(learnt.codewords, codes) @ learnt.rotation  # x = R^T y
    return (points - decoded).square().sum(1).mean().item()


def test_rotation_is_orthogonal():
    # Spec 4: R^T R = I to 1e-5.
    rotation = learn(correlated()).rotation
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(24), atol=1e-5, rtol=0)
    assert (rotation - torch.eye(24)).abs().max() > 0.1


def test_objective_never_grows_and_is_the_error():
    # Law: each half of an alternation minimises the same sum of squares.
    points = correlated()
    learnt = learn(points)
    assert learnt.errors.numel() == 20
    assert (learnt.errors.diff() <= 1e-6 * learnt.errors[0]).all()
    # The last error stands before the codes are taken anew, which can only lower it, and hardly does at the end.
    last = learnt.errors[-1].item()
    assert 0.99 * last <= error(points, learnt) <= last * (1 + 1e-5)


def test_a_rotation_pays():
    points = correlated()
    assert error(points, learn(points)) < 0.95 * error(points, learn(points, alternations=0))


def test_without_rotation_it_is_plain_product_quantization():
    # Spec 4: with R = I it is k-means in every part on its own, drawn from one generator.
    points, generator = correlated(), torch.Generator().manual_seed(0)
    learnt = learn(points, alternations=0)
    parts = [
        kmeans(points[:, 6 * k : 6 * k + 6].contiguous(), size=16, iterations=8, generator=generator, spherical=False)
        for k in range(4)
    ]
    assert torch.equal(learnt.rotation, torch.eye(24))
    assert torch.equal(learnt.codewords, torch.stack(parts))


def test_one_slot_is_plain_kmeans():
    points, generator = correlated(), torch.Generator().manual_seed(0)
    learnt = learn(points, slots=1, alternations=10)
    plain = kmeans(points, size=16, iterations=8 + 10 * 2, generator=generator, spherical=False)
    assert torch.equal(learnt.rotation, torch.eye(24))
    assert torch.equal(learnt.codewords[0], plain)


def test_permuting_parts_permutes_slots():
    # Spec 4: sub-spaces have no order.
    points = correlated()
    learnt, order = learn(points), torch.tensor([2, 0, 3, 1])
    rotated = points @ learnt.rotation.T
    codes = product_distances(rotated, learnt.codewords).argmin(2)
    swapped = rotated.unflatten(1, (4, 6))[:, order].flatten(1)
    assert torch.equal(product_distances(swapped, learnt.codewords[order]).argmin(2), codes[:, order])


def test_distances_and_decoding_by_hand():
    # Two parts of one axis each, codewords {0, 3} and {1, -1}; the point (2, -2).
    codewords = torch.tensor([[[0.0], [3.0]], [[1.0], [-1.0]]])
    distances = product_distances(torch.tensor([[2.0, -2.0]]), codewords)
    own = torch.tensor([4.0, 4.0])  # the point's own squared lengths are left out
    expected = torch.tensor([[4.0, 1.0], [9.0, 1.0]]) - own[:, None]
    torch.testing.assert_close(distances[0], expected)
    assert product_decode(codewords, torch.tensor([[1, 0], [0, 1]])).tolist() == [[3.0, 1.0], [0.0, -1.0]]


def test_axes_are_those_of_the_covariance():
    # Reference: singular values of the points themselves.
    points = correlated()
    axes, variances = principal_axes(points, 5)
    reference = torch.linalg.svdvals(points.double())[:5].square() / len(points)
    torch.testing.assert_close(variances, reference, rtol=1e-4, atol=0)
    torch.testing.assert_close(axes.T @ axes, torch.eye(5), atol=1e-5, rtol=0)
    torch.testing.assert_close((points @ axes).square().mean(0).double(), reference, rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="25 principal axes"):
        principal_axes(points, 25)


def test_axes_are_dealt_out_by_product():
    # By hand: 16 -> a; 8 -> b; 4 -> b (8 < 16); b is full at 32, so 2 -> a. Products 32 and 32.
    assert balanced_order(torch.tensor([16.0, 8.0, 4.0, 2.0]), 2).tolist() == [0, 3, 1, 2]
    # The same below 1, where a naive product shrinks with every axis it takes.
    assert balanced_order(torch.tensor([0.16, 0.08, 0.04, 0.02]), 2).tolist() == [0, 3, 1, 2]
    # Axes without variance are dealt out too.
    assert sorted(balanced_order(torch.tensor([4.0, 1.0, 0.0, 0.0]), 2).tolist()) == [0, 1, 2, 3]


def test_procrustes_finds_a_rotation():
    points = correlated(rows=200, dim=6)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    found, inner = procrustes(points, points @ turn.T)
    torch.testing.assert_close(found, turn, atol=1e-5, rtol=0)
    torch.testing.assert_close(inner, points.double().square().sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("size", "bits"), [(16, 4), (256, 8)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_error_is_not_above_that_of_faiss(size, bits):
    # Oracle: faiss, which has no other sizes than powers of two; at most 2 % above its error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        faiss = pytest.importorskip("faiss")
    points = correlated(rows=4000)
    axes, variances = principal_axes(points, 24)
    ours = learn(points @ axes[:, balanced_order(variances, 4)], size=size, alternations=30)
    matrix, theirs = faiss.OPQMatrix(24, 4), faiss.ProductQuantizer(24, 4, bits)
    matrix.pq, matrix.niter, matrix.verbose = theirs, 30, False
    theirs.cp.min_points_per_centroid = 1
    matrix.train(points.numpy())
    rotated = matrix.apply(points.numpy())
    theirs.train(rotated)
    reference = ((rotated - theirs.decode(theirs.compute_codes(rotated))) ** 2).sum(1).mean()
    assert error(points @ axes[:, balanced_order(variances, 4)], ours) <= 1.02 * reference


def test_parts_start_apart():
    # The generator moves on from part to part: equal parts get different draws, yet both fit.
    part = correlated(dim=6)
    codewords = product_kmeans(
        torch.cat([part, part], 1), slots=2, size=8, iterations=0, generator=torch.Generator().manual_seed(0)
    )
    assert not torch.equal(codewords[0], codewords[1])
