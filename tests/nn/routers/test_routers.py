"""Routers against Eq. 18 and their laws."""

import pytest
import torch

from adasid_exp.nn.routers.behavioral import BehavioralRouter, ControllerScaler, SigmoidScaler, UnitScaler
from adasid_exp.nn.routers.uniform import UniformRouter


def router(scaler=None, bound=None, threshold=0.0, bias=0.3):
    torch.manual_seed(0)
    return BehavioralRouter(
        dim=6,
        slots=4,
        hidden=16,
        bias=bias,
        scaler=scaler or SigmoidScaler(),
        bound=bound or torch.nn.Identity(),
        threshold=threshold,
    )


def batch(items=64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(items, 6, generator=generator), torch.rand(items, generator=generator)


def test_equation_18_by_hand():
    """With zero weights the gates are the bias: R = sigmoid(N) * 0.3."""
    model = router()
    torch.nn.init.zeros_(model.gates[-1].weight)
    routed = model(torch.zeros(2, 6), torch.tensor([0.0, 1.0]))
    expected = torch.tensor([[0.5 * 0.3] * 4, [0.731059 * 0.3] * 4])
    torch.testing.assert_close(routed, expected, atol=1e-6, rtol=0)


def test_never_negative_and_exactly_zero_where_the_gate_is_shut():
    model = router(bias=-0.1)
    behavior, richness = batch()
    routed = model(behavior, richness)
    shut = model.gates(behavior) <= 0
    assert shut.any()
    assert (~shut).any()
    assert (routed[shut] == 0).all()
    assert (routed[~shut] > 0).all()


def test_most_gates_start_open():
    behavior, richness = batch(512)
    assert (router()(behavior, richness) > 0).float().mean() >= 0.5


@pytest.mark.parametrize(
    ("scaler", "factor"),
    [(UnitScaler(), 1.0), (SigmoidScaler(), 0.679179), (ControllerScaler(alpha=10, beta=9), 0.249536)],
)
def test_scalers_at_richness_three_quarters(scaler, factor):
    torch.testing.assert_close(scaler(torch.tensor([0.75])), torch.tensor([factor]), atol=1e-5, rtol=0)


def test_tanh_bounds_without_opening_gates():
    behavior, richness = batch()
    plain, bounded = (
        router(bias=3.0)(behavior, richness),
        router(bias=3.0, bound=torch.nn.Tanh())(behavior, richness),
    )
    torch.testing.assert_close(bounded, plain.tanh())
    assert plain.max() > 1 > bounded.max()


def test_the_threshold_is_strict():
    weights = torch.tensor([[0.0, 0.2, 0.2000001, 1.0]])
    assert router(threshold=0.2).emitted(weights).tolist() == [[False, False, True, True]]
    assert router().emitted(weights).tolist() == [[False, True, True, True]]


def test_no_router_is_weight_one_everywhere():
    behavior, richness = batch(5)
    model = UniformRouter(dim=6, slots=3)
    routed = model(behavior, richness)
    assert torch.equal(routed, torch.ones(5, 3))
    assert model.emitted(routed).all()
    assert not list(model.parameters())
