"""MMD against the formula written out pair by pair, and its laws."""

import numpy as np
import pytest
import torch

from adasid_exp.functional.mmd import mmd


def samples(items=40, dim=5):
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(items, dim, generator=generator)
    return left, 0.5 + 1.5 * torch.randn(items, dim, generator=generator)


def by_pairs(x, y):
    """Spec section 9 literally."""
    items, joint = len(x), np.concatenate([x, y])
    variance = 0.5 * np.mean([[np.sum((a - b) ** 2) for b in joint] for a in joint])
    kernel = lambda a, b: np.exp(-np.sum((a - b) ** 2) / (2 * variance))  # noqa: E731
    within = [
        sum(kernel(z[i], z[j]) for i in range(items) for j in range(items) if i != j) / (items * (items - 1))
        for z in (x, y)
    ]
    across = 2 / items**2 * sum(kernel(a, b) for a in x for b in y)
    return sum(within) - across + 2 / (items - 1)


def test_the_formula_pair_by_pair():
    left, right = samples()
    assert mmd(left, right).item() == pytest.approx(by_pairs(left.double().numpy(), right.double().numpy()), rel=1e-5)


def test_the_gradient_is_that_of_the_formula():
    # Reference: automatic differentiation of the formula in float64, its variance held.
    left, right = (rows.requires_grad_() for rows in samples())
    grads = torch.autograd.grad(mmd(left, right), (left, right))
    x, y = (rows.detach().double().requires_grad_() for rows in (left, right))
    joint = torch.cat([x, y])
    squared = (joint.unsqueeze(1) - joint).square().sum(2)
    kernel = torch.exp(-squared / squared.mean().detach())
    within = (kernel[:40, :40].sum() + kernel[40:, 40:].sum() - 80) / (40 * 39)
    expected = torch.autograd.grad(within - 2 * kernel[:40, 40:].mean(), (x, y))
    for ours, theirs in zip(grads, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-7)


def test_a_sample_is_nearest_to_itself_whatever_its_order():
    # The flaw of MMD as a reconstruction loss: permuted items cost nothing.
    left, right = samples()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mmd(left, right[order]), mmd(left, right))
    torch.testing.assert_close(mmd(left[order], left), mmd(left, left))
    assert mmd(left, left) < mmd(left, right)


def test_a_sample_with_itself_costs_a_constant():
    # By hand: s/(B(B-1)) twice - 2(s + B)/B^2 + 2/(B-1) with s the sum off the diagonal; equal rows have s = B(B-1).
    equal = torch.ones(8, 3)
    assert mmd(equal, equal).item() == pytest.approx(2 / 7)


def test_one_item_has_no_distribution():
    left = torch.ones(1, 3, requires_grad=True)
    value = mmd(left, torch.zeros(1, 3))
    value.backward()
    assert value.item() == 0.0
    assert left.grad.abs().sum().item() == 0.0
