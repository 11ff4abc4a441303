"""The multi-layer perceptron."""

import pytest
import torch

from adasid_exp.nn.mlp import MLP


def test_layers_by_hand():
    # Hidden relu([1, -1] * 2) = [2, 0]; output 3 * 2 + 5 * 0 = 6; no ReLU behind it.
    mlp = MLP(widths=[1, 2, 1])
    state = {
        "0.weight": torch.tensor([[1.0], [-1.0]]),
        "0.bias": torch.zeros(2),
        "2.weight": torch.tensor([[3.0, -5.0]]),
        "2.bias": torch.zeros(1),
    }
    mlp.load_state_dict(state)
    assert mlp(torch.tensor([[2.0], [-2.0]])).tolist() == [[6.0], [-10.0]]


def test_one_width_is_no_network():
    with pytest.raises(ValueError, match="input and an output"):
        MLP(widths=[3])
