"""The losses against plain torch, and what may be drawn as a negative."""

import math

import pytest
import torch
import torch.nn.functional as F

from adasid_exp.functional.steps import valid_steps
from adasid_exp.nn.losses.next_item import BinaryCrossEntropy, FullSoftmax, InBatchSoftmax
from adasid_exp.types import SequenceBatch


@pytest.fixture
def batch():
    """Two users: 3 -> 1 -> 4 (two steps) and 2 -> 0 -> 5 -> 6 (three)."""
    return SequenceBatch(
        user=torch.tensor([0, 1]),
        history=torch.tensor([[3, 1, 0], [2, 0, 5]]),
        length=torch.tensor([2, 3]),
        target=torch.tensor([[1, 4, 0], [0, 5, 6]]),
    )


@pytest.fixture
def states():
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def table():
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


def test_full_softmax_is_torch_cross_entropy_over_valid_steps(batch, states, table):
    chosen = torch.cat([states[0, :2], states[1]])
    wanted = F.cross_entropy(chosen @ table.t(), torch.tensor([1, 4, 0, 5, 6]))
    torch.testing.assert_close(FullSoftmax(chunk=2)(states, table, batch), wanted)


def test_no_loss_looks_at_padding(batch, states, table):
    spoiled = states.clone()
    spoiled[0, 2] = torch.nan
    for loss in (FullSoftmax(chunk=2), InBatchSoftmax(negatives=3), BinaryCrossEntropy(exponent=0.0)):
        loss.observe(torch.ones(8))
        assert torch.isfinite(loss(spoiled, table, batch))


def test_binary_negatives_avoid_the_row(batch):
    """User 0 owns {3, 1, 4}, user 1 owns {2, 0, 5, 6}; item 7 was never seen and has no mass under 0.75."""
    loss = BinaryCrossEntropy(exponent=0.75)
    loss.observe(torch.tensor([1, 2, 3, 4, 5, 6, 7, 0]))
    valid = valid_steps(batch)
    drawn = torch.stack([loss.negatives(batch, valid) for _ in range(200)])
    assert set(drawn[:, 0].flatten().tolist()) == {0, 2, 5, 6}
    assert set(drawn[:, 1].flatten().tolist()) == {1, 3, 4}


def test_binary_loss_by_hand(batch):
    """Zero states: both logits are 0, so each step costs 2 ln 2."""
    loss = BinaryCrossEntropy(exponent=0.0)
    loss.observe(torch.ones(8))
    assert loss(torch.zeros(2, 3, 4), torch.ones(8, 4), batch).item() == pytest.approx(2 * math.log(2))


def test_in_batch_softmax_never_counts_the_target_as_negative(table):
    """One step: every draw is the target itself, so nothing competes and the loss is 0."""
    one = SequenceBatch(
        user=torch.tensor([0]),
        history=torch.tensor([[1]]),
        length=torch.tensor([1]),
        target=torch.tensor([[2]]),
    )
    assert InBatchSoftmax(negatives=5)(torch.ones(1, 1, 4), table, one).item() == 0.0


def test_in_batch_softmax_by_hand(batch):
    """Zero states: the target against the draws that are not it, ln(1 + others) a step."""
    torch.manual_seed(0)
    drawn = torch.tensor([1, 4, 0, 5, 6])[torch.randint(5, (6,))]
    others = [(drawn != item).sum().item() for item in (1, 4, 0, 5, 6)]
    torch.manual_seed(0)
    loss = InBatchSoftmax(negatives=6)(torch.zeros(2, 3, 4), torch.ones(8, 4), batch)
    assert loss.item() == pytest.approx(sum(math.log(1 + n) for n in others) / 5)


@pytest.mark.parametrize("loss", [FullSoftmax(chunk=2), InBatchSoftmax(negatives=6)], ids=["full", "in batch"])
def test_softmaxes_in_float32_under_half_precision(loss, batch, states, table):
    """Law: what autocast would round to 8 bits it does not round, and the gradients come back as they went in."""

    def value(where):
        torch.manual_seed(0)
        own = states.clone().requires_grad_()
        with where:
            found = loss(own, table, batch)
        found.backward()
        return found.detach(), own.grad

    plain = value(torch.autocast("cpu", enabled=False))
    torch.testing.assert_close(value(torch.autocast("cpu", dtype=torch.bfloat16)), plain, rtol=0, atol=0)
