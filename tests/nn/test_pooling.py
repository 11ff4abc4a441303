"""Pooled histories against loops over users and steps."""

import pytest
import torch

from adasid_exp.nn.pooling import MeanPooling, TargetAttention

LENGTHS = torch.tensor([0, 1, 3, 4])


def draw():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 5, generator=generator), torch.randn(4, 4, 5, generator=generator)


def attention():
    torch.manual_seed(0)
    return TargetAttention(dim=5, hidden=6)


def test_mean_equals_a_loop_and_an_empty_history_is_zero():
    target, history = draw()
    pooled = MeanPooling(dim=5)(target, history, LENGTHS)
    assert bool((pooled[0] == 0).all())
    for row in range(1, 4):
        torch.testing.assert_close(pooled[row], history[row, : LENGTHS[row]].mean(0))


def test_attention_is_dins_activation_unit():
    target, history = draw()
    unit = attention()
    pooled = unit(target, history, LENGTHS)
    # One linear layer over (history, target, difference, product) written out, step by step; the three stored
    # maps are its blocks with the difference's block at zero.
    of_history, of_product = unit.of_history.weight.split(5, 1)
    for row in range(4):
        expected = torch.zeros(5)
        for step in range(int(LENGTHS[row])):
            h, t = history[row, step], target[row]
            hidden = torch.relu(
                of_history @ h + unit.of_target.weight @ t + of_product @ (h * t) + unit.of_history.bias
            )
            expected += (unit.weight.weight[0] @ hidden + unit.weight.bias[0]) * h
        torch.testing.assert_close(pooled[row], expected)


@pytest.mark.parametrize("pooling", [MeanPooling(dim=5), attention()])
def test_padding_is_not_seen(pooling):
    target, history = draw()
    other = history.clone()
    for row, length in enumerate(LENGTHS):
        other[row, length:] = 1e6
    torch.testing.assert_close(
        pooling(target, history, LENGTHS), pooling(target, other, LENGTHS), rtol=0, atol=0
    )


@pytest.mark.parametrize("pooling", [MeanPooling(dim=5), attention()])
def test_order_of_the_history_does_not_matter(pooling):
    target, history = draw()
    length = torch.full((4,), 4)
    torch.testing.assert_close(pooling(target, history, length), pooling(target, history.flip(1), length))
