"""Draws follow the masses, and never hit a row's own items."""

import pytest
import torch
from scipy.stats import chisquare

from adasid_exp.functional.negatives import draw_excluding, inverse_cdf


def uniform(rows, draws, seed=0):
    return torch.rand(rows, draws, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_shares_follow_the_weights_without_the_own_items():
    """Reference: scipy's chi-square against the renormalised weights; own items repeat and one entry is
    invalid."""
    weights = torch.tensor([5.0, 0.0, 1.0, 3.0, 8.0, 2.0, 4.0])
    own = torch.tensor([[4, 0, 4, 6]])
    valid = torch.tensor([[True, True, True, False]])
    drawn = draw_excluding(inverse_cdf(weights), own, valid, uniform(1, 200_000))
    counts = drawn.flatten().bincount(minlength=7)
    allowed = torch.tensor([False, False, True, True, False, True, True])
    assert counts[~allowed].sum() == 0
    expected = weights[allowed].double() / weights[allowed].sum() * counts.sum()
    assert chisquare(counts[allowed].numpy(), expected.numpy()).pvalue > 1e-4


def test_hand_worked_line():
    """Masses 1, 1, 2; item 1 is cut out, so the line is [0: 1/3) [2: 1/3..1)."""
    ends = inverse_cdf(torch.tensor([1, 1, 2]))
    draws = torch.tensor([[0.0, 0.3333, 0.3334, 0.999999]], dtype=torch.float64)
    drawn = draw_excluding(ends, torch.tensor([[1]]), torch.tensor([[True]]), draws)
    assert drawn.tolist() == [[0, 0, 2, 2]]


def test_never_an_own_item_in_many_rows():
    generator = torch.Generator().manual_seed(1)
    weights = torch.randint(1, 400, (300,), generator=generator).double() ** 0.75
    own = torch.randint(0, 300, (2000, 21), generator=generator)
    drawn = draw_excluding(inverse_cdf(weights), own, torch.ones_like(own, dtype=torch.bool), uniform(2000, 50))
    assert not (drawn[:, :, None] == own[:, None, :]).any()
    assert drawn.min() == 0
    assert drawn.max() == 299


def test_extreme_draws_stay_inside():
    ends = inverse_cdf(torch.ones(5))
    draws = torch.tensor([[0.0, 1.0 - 2.0**-53]], dtype=torch.float64)
    drawn = draw_excluding(ends, torch.tensor([[0, 4]]), torch.tensor([[True, True]]), draws)
    assert drawn.tolist() == [[1, 3]]


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be finite"):
        inverse_cdf(torch.tensor(weights))
