"""Dropout by bytes: laws of the mean, the share, the gradient."""

import pytest
import torch

from adasid_exp.nn.dropout import Dropout


@pytest.mark.parametrize("chance", [0.1, 0.2, 0.5, 0.9])
def test_share_and_mean(chance):
    torch.manual_seed(0)
    outputs = Dropout(chance=chance)(torch.ones(1000, 1003))
    kept = outputs != 0
    used = round(chance * 256) / 256
    spread = (used * (1 - used) / kept.numel()) ** 0.5
    assert abs(kept.float().mean().item() - (1 - used)) < 5 * spread
    assert outputs[kept].unique().tolist() == pytest.approx([1 / (1 - used)])


def test_neighbors_fall_independently():
    torch.manual_seed(0)
    dropped = (Dropout(chance=0.5)(torch.ones(400_000)) == 0).float()
    for lag in (1, 2, 4, 7, 8):
        both = (dropped[:-lag] * dropped[lag:]).mean().item()
        assert both == pytest.approx(0.25, abs=0.005)


def test_gradient_takes_the_same_mask():
    torch.manual_seed(0)
    inputs = torch.randn(50, requires_grad=True)
    outputs = Dropout(chance=0.4)(inputs)
    outputs.sum().backward()
    torch.testing.assert_close(inputs.grad * inputs.detach(), outputs.detach())


def test_unchanged_in_evaluation_and_at_zero():
    inputs = torch.randn(5)
    assert Dropout(chance=0.5).eval()(inputs) is inputs
    assert Dropout(chance=0.0)(inputs) is inputs


def test_impossible_chance():
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        Dropout(chance=1.0)
