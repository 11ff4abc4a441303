"""Reconstruction balance and MMQ's extra terms by hand."""

import pytest
import torch

from adasid_exp.nn.losses.auxiliary import AuxiliaryDecoders, Orthogonality, overlap
from adasid_exp.nn.losses.reconstruction import BalancedReconstruction, FlatReconstruction


def test_blocks_count_alike_when_balanced():
    """Errors 2 in a block of one column and 1 in a block of three: (4 + 1) / 2 against (4 + 3) / 4."""
    error = torch.tensor([[2.0, 1.0, 1.0, 1.0]])
    target = torch.zeros(1, 4)
    assert BalancedReconstruction(dims=(1, 3), weight=1.0)(error, target).item() == pytest.approx(2.5)
    assert FlatReconstruction(dims=(1, 3), weight=2.0)(error, target).item() == pytest.approx(3.5)


def test_orthogonal_experts_have_no_overlap_and_equal_ones_all_of_it():
    """Two equal unit rows: V V^T - I has two off-diagonal ones."""
    apart = torch.eye(2).reshape(2, 1, 2)
    same = torch.ones(2, 1, 2)
    assert overlap(5 * apart).item() == pytest.approx(0, abs=1e-12)
    assert overlap(same).item() == pytest.approx(2, abs=1e-6)
    term = Orthogonality(weight=0.5)([apart, same])
    assert term["orthogonality"].item() == pytest.approx(1, abs=1e-6)


def test_weight_zero_is_absence():
    assert Orthogonality(weight=0.0)([torch.ones(2, 1, 2)]) == {}
    absent = AuxiliaryDecoders(dims={"text": 3}, code=2, hidden=4, weight=0.0)
    assert absent({"text": torch.ones(1, 2)}, {"text": torch.ones(1, 3)}) == {}
    assert not list(absent.parameters())


def test_auxiliary_reconstructs_every_modality_from_its_own_slots():
    torch.manual_seed(0)
    term = AuxiliaryDecoders(dims={"text": 3, "behavior": 2}, code=2, hidden=4, weight=10.0)
    sums = {name: torch.randn(5, 2, requires_grad=True) for name in ("shared", "text", "behavior")}
    targets = {"text": torch.randn(5, 3), "behavior": torch.randn(5, 2)}
    loss = term(sums, targets)["auxiliary"]
    parts = [(term.decoders[n](sums[n]) - targets[n]).square().mean() for n in targets]
    torch.testing.assert_close(loss, 10 * (parts[0] + parts[1]))
    loss.backward()
    assert sums["shared"].grad is None
    assert sums["behavior"].grad.abs().sum() > 0
