"""Column moments by hand."""

import pytest
import torch

from adasid_exp.functional import standardize
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


def test_blocks_of_a_large_catalogue_give_the_moments_of_the_whole(monkeypatch):
    # Reference: numpy in double precision over all chosen rows. One block has none, the last is short.
    monkeypatch.setattr(standardize, "BLOCK", 64)
    generator = torch.Generator().manual_seed(0)
    values = 100 + torch.randn(300, 3, generator=generator) * torch.tensor([1.0, 20.0, 0.0])
    rows = torch.rand(300, generator=generator) < 0.7
    rows[64:128] = False
    moments = column_moments(values, rows)
    chosen = values[rows].double().numpy()
    torch.testing.assert_close(moments.mean, torch.from_numpy(chosen.mean(axis=0)).float())
    torch.testing.assert_close(moments.std[:2], torch.from_numpy(chosen.std(axis=0)[:2]).float())
    assert moments.std[2] == 1.0
    with pytest.raises(ValueError, match="no row"):
        column_moments(values, torch.zeros(300, dtype=torch.bool))
