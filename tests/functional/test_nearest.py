"""The smallest of each row, against torch's own argmin."""

from __future__ import annotations

import pytest
import torch

from adasid_exp.functional.nearest import argmin_in_place


@pytest.mark.parametrize("size", [1, 2, 7, 100, 300])
@pytest.mark.parametrize("grain", [0.0, 0.25, 1.0])
def test_as_torch_finds_it_ties_too(size: int, grain: float) -> None:
    # Reference: torch.argmin, which takes the first of equals on the CPU; a coarse grain makes many of them.
    values = torch.randn(3, 500, size, generator=torch.Generator().manual_seed(size))
    values = (values / grain).round() * grain if grain else values
    expected = values.argmin(dim=-1)
    assert torch.equal(argmin_in_place(values), expected)


def test_by_hand() -> None:
    inf, nan = float("inf"), float("nan")
    rows = torch.tensor([[3.0, 1.0, 1.0], [inf, inf, inf], [0.0, -inf, -inf], [0.0, -0.0, 1.0], [nan, nan, nan]])
    assert argmin_in_place(rows).tolist() == [1, 0, 1, 0, 0]


def test_narrow_floats_keep_their_positions() -> None:
    # By hand: bfloat16 cannot count to 299, so the weights of float32 must not be used for it.
    values = torch.ones(1, 300, dtype=torch.bfloat16)
    values[0, 299] = 0.0
    assert argmin_in_place(values).tolist() == [299]
