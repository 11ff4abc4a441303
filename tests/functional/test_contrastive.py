"""InfoNCE against a loop in numpy and against its laws."""

import numpy as np
import pytest
import torch

from adasid_exp.functional.contrastive import info_nce, symmetric_info_nce


def loop_info_nce(anchor, candidates, temperature, first=0):
    losses = []
    for i, a in enumerate(anchor):
        scores = [a @ c / np.linalg.norm(a) / np.linalg.norm(c) / temperature for c in candidates]
        losses.append(np.log(np.sum(np.exp(scores))) - scores[first + i])
    return np.array(losses)


def test_against_a_loop():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    ours = info_nce(torch.tensor(left), torch.tensor(right), temperature=0.07)
    np.testing.assert_allclose(ours, loop_info_nce(left, right, 0.07), rtol=1e-10)


def test_symmetric_is_the_sum_of_both_directions():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    both = loop_info_nce(left, right, 0.1) + loop_info_nce(right, left, 0.1)
    ours = symmetric_info_nce(torch.tensor(left), torch.tensor(right), temperature=0.1)
    np.testing.assert_allclose(ours, both, rtol=1e-10)


def test_rows_of_a_rank_among_candidates_of_all():
    rng = np.random.default_rng(2)
    anchor, candidates = rng.normal(size=(3, 4)), rng.normal(size=(9, 4))
    ours = info_nce(torch.tensor(anchor), torch.tensor(candidates), temperature=0.07, first=6)
    np.testing.assert_allclose(ours, loop_info_nce(anchor, candidates, 0.07, first=6), rtol=1e-10)


def test_identical_views_with_orthogonal_negatives_by_hand():
    """Cosine 1 with oneself, 0 with the one negative: log(1 + exp(-1 / 0.5))."""
    views = torch.eye(2)
    expected = np.log1p(np.exp(-2.0))
    np.testing.assert_allclose(info_nce(views, 3 * views, temperature=0.5), expected, rtol=1e-6)


def test_a_lone_item_has_no_loss():
    one = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    assert info_nce(one, one + 1, temperature=0.07).item() == 0
    assert symmetric_info_nce(one, one + 1, temperature=0.07).item() == 0


def test_permuting_the_batch_permutes_the_losses():
    generator = torch.Generator().manual_seed(3)
    left, right = torch.randn(2, 16, 8, generator=generator)
    order = torch.randperm(16, generator=generator)
    straight = info_nce(left, right, temperature=0.07)
    torch.testing.assert_close(info_nce(left[order], right[order], temperature=0.07), straight[order])


@pytest.mark.parametrize("temperature", [0.07, 0.005])
def test_opposite_views_stay_finite(temperature):
    views = torch.randn(8, 4, generator=torch.Generator().manual_seed(4)).requires_grad_()
    info_nce(views, -views, temperature=temperature).sum().backward()
    assert torch.isfinite(views.grad).all()
    assert views.grad.abs().sum() > 0


def test_a_zero_row_does_not_divide_by_zero():
    views = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    loss = info_nce(views, torch.eye(2), temperature=1.0)
    loss.sum().backward()
    assert loss[0].item() == pytest.approx(np.log(2))  # cosine 0 with both
    assert torch.isfinite(views.grad).all()
