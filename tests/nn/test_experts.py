"""Batched experts against one perceptron after another."""

import torch

from adasid_exp.nn.experts import ExpertGroup, Gates


def test_group_equals_its_experts_one_by_one():
    torch.manual_seed(0)
    group = ExpertGroup(dim=7, hidden=5, code=3, experts=4)
    inputs = torch.randn(6, 7)
    together = group(inputs)
    for e in range(4):
        first = slice(5 * e, 5 * e + 5)
        hidden = (inputs @ group.hidden.weight[first].T + group.hidden.bias[first]).relu()
        torch.testing.assert_close(together[:, e], hidden @ group.weight[e] + group.bias[e])
        assert torch.equal(group.first_weights()[e], group.hidden.weight[first])


def test_one_expert_s_loss_leaves_the_others_alone():
    group = ExpertGroup(dim=7, hidden=5, code=3, experts=2)
    group(torch.randn(6, 7))[:, 0].sum().backward()
    assert group.weight.grad[0].abs().sum() > 0
    assert group.weight.grad[1].abs().sum() == 0
    assert group.hidden.weight.grad[5:].abs().sum() == 0


def test_gates_are_a_distribution():
    gates = Gates(dim=4, hidden=8, experts=3)(torch.randn(5, 4))
    torch.testing.assert_close(gates.sum(1), torch.ones(5))
    assert (gates > 0).all()


def test_a_lone_expert_has_weight_one_and_nothing_to_learn():
    gates = Gates(dim=4, hidden=8, experts=1)
    assert torch.equal(gates(torch.randn(5, 4)), torch.ones(5, 1))
    assert not list(gates.parameters())
