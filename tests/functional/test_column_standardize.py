"""Column moments by hand."""

import pytest
import torch

from adasid_exp.functional.standardize import column_moments, z_score


def test_moments_over_chosen_rows():
    # By hand: rows 0 and 2 of [1, 5], [3, 5]: mean [2, 5], population deviation [1, 0 -> 1].
    values = torch.tensor([[1.0, 5.0], [99.0, 7.0], [3.0, 5.0]])
    moments = column_moments(values, torch.tensor([True, False, True]))
    assert moments.mean.tolist() == [2.0, 5.0]
    assert moments.std.tolist() == [1.0, 1.0]
    assert z_score(values, moments.mean, moments.std).tolist() == [[-1.0, 0.0], [97.0, 2.0], [1.0, 0.0]]


def test_a_large_constant_is_still_constant():
    # Law: rounding of a constant column must not be blown up to unit variance.
    moments = column_moments(torch.full((1000, 1), 12345.678), torch.ones(1000, dtype=torch.bool))
    assert moments.std.tolist() == [1.0]


def test_no_rows_raise():
    with pytest.raises(ValueError, match="no row"):
        column_moments(torch.ones(2, 1), torch.zeros(2, dtype=torch.bool))
