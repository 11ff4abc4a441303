"""Pooled histories against loops over users and steps."""

import pytest
import torch

from adasid_exp.nn.pooling import MeanPooling, TargetAttention

LENGTHS = torch.tensor([0, 1, 3, 4])


def draw():
    """Targets ``[4, 5]`` and histories of ``LENGTHS``, packed and apart."""
    generator = torch.Generator().manual_seed(0)
    histories = [torch.randn(int(length), 5, generator=generator) for length in LENGTHS]
    row = torch.repeat_interleave(LENGTHS)
    return torch.randn(4, 5, generator=generator), histories, torch.cat(histories), row


def attention():
    torch.manual_seed(0)
    return TargetAttention(dim=5, hidden=6)


def test_mean_equals_a_loop_and_an_empty_history_is_zero():
    target, histories, steps, row = draw()
    pooled = MeanPooling(dim=5)(target, steps, row, LENGTHS)
    assert bool((pooled[0] == 0).all())
    for one in range(1, 4):
        torch.testing.assert_close(pooled[one], histories[one].mean(0))


def test_attention_is_dins_activation_unit():
    target, histories, steps, row = draw()
    unit = attention()
    pooled = unit(target, steps, row, LENGTHS)
    # One linear layer over (history, target, difference, product) written out, step by step; the three stored
    # maps are its blocks with the difference's block at zero.
    of_history, of_product = unit.of_history.weight.split(5, 1)
    for one in range(4):
        expected, t = torch.zeros(5), target[one]
        for h in histories[one]:
            hidden = torch.relu(
                of_history @ h + unit.of_target.weight @ t + of_product @ (h * t) + unit.of_history.bias
            )
            expected += (unit.weight.weight[0] @ hidden + unit.weight.bias[0]) * h
        torch.testing.assert_close(pooled[one], expected)


@pytest.mark.parametrize("pooling", [MeanPooling(dim=5), attention()])
def test_order_of_the_steps_does_not_matter(pooling):
    target, _, steps, row = draw()
    torch.testing.assert_close(
        pooling(target, steps, row, LENGTHS), pooling(target, steps.flip(0), row.flip(0), LENGTHS)
    )
