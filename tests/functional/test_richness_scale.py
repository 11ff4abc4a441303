"""Richness scales against scipy and against their laws."""

import numpy as np
import pytest
import scipy.stats
import torch

from adasid_exp.functional.richness import fractional_rank, rescale, spearman


def test_rescale_by_hand():
    scaled = rescale(torch.tensor([2.0, 3.0, 6.0]), torch.tensor(2.0), torch.tensor(6.0))
    assert scaled.tolist() == [0.0, 0.25, 1.0]


def test_rescale_clips_what_lies_outside():
    assert rescale(torch.tensor([-1.0, 9.0]), torch.tensor(0.0), torch.tensor(4.0)).tolist() == [0.0, 1.0]


def test_one_value_for_all_is_full_richness():
    assert rescale(torch.full((3,), 5.0), torch.tensor(5.0), torch.tensor(5.0)).tolist() == [1.0] * 3
    assert fractional_rank(torch.full((3,), 5.0), torch.full((3,), 5.0)).tolist() == [1.0] * 3


def test_ranks_with_ties_against_scipy():
    values = np.random.default_rng(0).integers(0, 6, 50).astype(np.float64)
    expected = (scipy.stats.rankdata(values) - 1) / 49
    ours = fractional_rank(torch.tensor(values), torch.tensor(np.sort(values)))
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_unseen_values_fall_between_their_neighbours():
    reference = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    ranks = fractional_rank(torch.tensor([0.0, 2.0, 2.5, 3.0, 9.0]), reference)
    assert ranks.tolist() == [0.0, 0.25, 0.375, 0.5, 1.0]


def test_ranks_ignore_any_rising_map():
    values = torch.randn(100, generator=torch.Generator().manual_seed(0))
    plain = fractional_rank(values, values.sort().values)
    curved = fractional_rank(values.exp(), values.exp().sort().values)
    assert torch.equal(plain, curved)


@pytest.mark.parametrize("seed", range(3))
def test_spearman_against_scipy(seed):
    rng = np.random.default_rng(seed)
    left = rng.integers(0, 9, 80)
    right = left * rng.choice([-1, 2]) + rng.normal(size=80) * 4
    expected = scipy.stats.spearmanr(left, right).statistic
    assert spearman(torch.tensor(left), torch.tensor(right)).item() == pytest.approx(expected, abs=1e-12)


def test_spearman_of_a_constant_is_zero():
    assert spearman(torch.ones(4), torch.arange(4)).item() == 0
