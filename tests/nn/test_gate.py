"""The gated perceptron: PEPNet's equations in ten lines, and the invariants of a gate."""

import torch
from torch.nn import functional as F

from adasid_exp.nn.gate import GatedMlp

ROWS, INPUTS, PRIORS = 7, 5, 3


def tower(dropout=0.0, scale=2.0, trained=True):
    torch.manual_seed(0)
    model = GatedMlp(inputs=INPUTS, priors=PRIORS, hidden=[8, 6, 4], gate_hidden=3, scale=scale, dropout=dropout)
    if trained:  # a gate's second layer starts at zero; training has moved it
        for gate in model.gates_out:
            torch.nn.init.normal_(gate.weight)
            torch.nn.init.normal_(gate.bias)
    return model


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, INPUTS, generator=generator), torch.randn(ROWS, PRIORS, generator=generator)


def test_forward_equals_pepnets_equations_with_a_separate_gate_unit_a_layer():
    model, (features, prior) = tower(), inputs()
    hidden = features
    for i, layer in enumerate(model.layers):
        own = slice(3 * i, 3 * i + 3)  # this gate's part of the fused first layer
        weight = torch.cat([model.gates_in.weight[own], model.gates_prior.weight[own]], 1)
        first = torch.relu(torch.cat([features, prior], 1) @ weight.T + model.gates_prior.bias[own])
        gate = 2 * torch.sigmoid(first @ model.gates_out[i].weight.T + model.gates_out[i].bias)
        hidden = torch.relu(hidden @ layer.weight.T + layer.bias) * gate
    expected = hidden @ model.output.weight[0] + model.output.bias
    torch.testing.assert_close(model(features, prior), expected)


def test_zero_second_layers_leave_the_plain_perceptron():
    model, (features, prior) = tower(trained=False), inputs()
    hidden = features
    for layer in model.layers:
        hidden = F.relu(layer(hidden))
    assert all(bool((gate == 1).all()) for gate in model.gates(features, prior))
    torch.testing.assert_close(model(features, prior), model.output(hidden).squeeze(1), rtol=0, atol=0)


def test_gates_stay_within_zero_and_scale_and_reach_beyond_one():
    for scale in (1.0, 2.0):
        gates = torch.cat(tower(scale=scale).gates(*inputs()), 1).detach()
        assert 0 < float(gates.min()) < float(gates.max()) < scale
        assert float(gates.max()) > scale / 2


def test_no_gradient_reaches_the_features_through_the_gates():
    model, (features, prior) = tower(), inputs()
    features.requires_grad_(), prior.requires_grad_()
    torch.cat(model.gates(features, prior), 1).sum().backward()
    assert features.grad is None
    assert bool((prior.grad != 0).any())


def test_gradient_of_the_features_is_that_of_a_perceptron_with_constant_gates():
    model, (features, prior) = tower(), inputs()
    gates = [gate.detach() for gate in model.gates(features, prior)]
    features.requires_grad_()
    (found,) = torch.autograd.grad(model(features, prior).sum(), features)
    hidden = features
    for layer, gate in zip(model.layers, gates, strict=True):
        hidden = F.relu(layer(hidden)) * gate
    (expected,) = torch.autograd.grad(model.output(hidden).sum(), features)
    torch.testing.assert_close(found, expected)


def test_every_parameter_learns_once_the_gates_have_left_zero():
    model = tower()
    model(*inputs()).square().sum().backward()
    assert all(bool((p.grad != 0).any()) for p in model.parameters())


def test_dropout_acts_in_training_only():
    model, (features, prior) = tower(dropout=0.5), inputs()
    assert not torch.equal(model(features, prior), model(features, prior))
    model.eval()
    assert torch.equal(model(features, prior), model(features, prior))
