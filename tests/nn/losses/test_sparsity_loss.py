"""The sparsity controller and its four readings, by hand and by law."""

import pytest
import torch

from adasid_exp.nn.losses.sparsity import (
    BucketSparsity,
    ConvexTarget,
    FixedTarget,
    GlobalSparsity,
    ItemSparsity,
    LiteralSparsity,
    MeanTarget,
    NoSparsity,
    StrengthController,
)


def controller(buckets=1, **overrides):
    knobs = {"growth": 1.05, "smoothing": 0.9, "floor": 1e-4, "ceiling": 0.3, "dead_band": 0.0, "settle": 0.9}
    return StrengthController(buckets=buckets, **(knobs | overrides))


def regularizer(kind=BucketSparsity, buckets=1, theta=0.5, slots=2, **overrides):
    return kind(slots=slots, target=FixedTarget(theta=theta), controller=controller(buckets, **overrides))


def fitted(*args, richness=None, **kwargs):
    model = regularizer(*args, **kwargs)
    model.fit(torch.zeros(4) if richness is None else richness)
    return model


OPEN, SHUT = torch.ones(4, 2), torch.zeros(4, 2)


def test_under_sparsity_multiplies_by_the_growth_each_step():
    model = fitted()
    for step in range(1, 11):
        model(OPEN, torch.zeros(4))
        model.after_step(step, 1000)
        assert model.controller.strength.item() == pytest.approx(1e-4 * 1.05**step, rel=1e-5)


def test_over_sparsity_divides_down_to_the_floor():
    model = fitted()
    model.controller.strength.fill_(0.01)
    for step in range(1, 201):
        model(SHUT, torch.zeros(4))
        model.after_step(step, 10_000)
        assert model.controller.strength.item() == pytest.approx(max(0.01 / 1.05**step, 1e-4), rel=1e-4)


def test_strength_stops_at_the_ceiling():
    model = fitted(growth=10.0)
    for step in range(20):
        model(OPEN, torch.zeros(4))
        model.after_step(step, 1000)
    assert model.controller.strength.item() == pytest.approx(0.3)


def test_the_dead_band_and_the_settling_leave_the_strength_alone():
    within = fitted(dead_band=0.9)
    within(OPEN, torch.zeros(4))
    within.after_step(1, 100)
    settled = fitted()
    settled(OPEN, torch.zeros(4))
    settled.after_step(90, 100)
    assert within.controller.strength.item() == settled.controller.strength.item() == pytest.approx(1e-4)
    settled.after_step(89, 100)
    assert settled.controller.strength.item() == pytest.approx(1.05e-4)


def test_running_sparsity_is_an_average_of_nine_tenths():
    """Starts at the target .5; one step at 0 gives .45, two give .405."""
    model = fitted()
    for expected in (0.45, 0.405):
        model(OPEN, torch.zeros(4))
        model.after_step(1, 100)
        assert model.controller.sparsity.item() == pytest.approx(expected)


def test_buckets_move_on_their_own_and_only_when_present():
    richness = torch.linspace(0, 1, 40)
    model = fitted(buckets=4, richness=richness, theta=0.5)
    poor, rich = richness[:10], richness[30:]
    weights = torch.cat([torch.ones(10, 2), torch.zeros(10, 2)])
    model(weights, torch.cat([poor, rich]))
    model.after_step(1, 100)
    strength = model.controller.strength / 1e-4
    assert strength.tolist() == pytest.approx([1.05, 1, 1, 1])  # the rich would fall, but stand on the floor
    model.controller.strength.fill_(0.01)
    model(weights, torch.cat([poor, rich]))
    model.after_step(2, 100)
    assert model.controller.strength.tolist() == pytest.approx([0.0105, 0.01, 0.01, 0.01 / 1.05])


def test_bucket_term_by_hand():
    """Two buckets of strength .1 and .2, target 1/2 for the poor and 0 for the rich.

    Loads: expert 0 is used by both, expert 1 by the second item, over (1/2 + 1): 4/3 and 2/3.
    (.1 * 4/3 * 3 + .2 * (4/3 * 1 + 2/3 * 2)) / 2
    """
    model = fitted(buckets=2, theta=0.5, richness=torch.tensor([0.0, 1.0]))
    model.controller.strength.copy_(torch.tensor([0.1, 0.2]))
    weights = torch.tensor([[3.0, 0.0], [1.0, 2.0]], requires_grad=True)
    loss = model(weights, torch.tensor([0.0, 1.0]))["sparsity"]
    assert loss.item() == pytest.approx((0.4 + 0.2 * 8 / 3) / 2)
    loss.backward()
    expected = torch.tensor([[0.1 * 4 / 3, 0.1 * 2 / 3], [0.2 * 4 / 3, 0.2 * 2 / 3]]) / 2
    torch.testing.assert_close(weights.grad, expected)  # the load carries no gradient


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (GlobalSparsity, (4 / 3 * 3 + 4 / 3 + 2 / 3 * 2) / 2),
        (ItemSparsity, (1 / 0.5 * 3 + 1 * 1 + 0.5 * 2) / 2),
        (LiteralSparsity, (0.75 / 0.75 * (3 + 1 + 2)) / 2),
    ],
)
def test_one_strength_readings_by_hand(kind, expected):
    model = fitted(kind, theta=0.5, richness=torch.tensor([0.0, 1.0]))
    model.controller.strength.fill_(1.0)
    loss = model(torch.tensor([[3.0, 0.0], [1.0, 2.0]]), torch.tensor([0.0, 1.0]))["sparsity"]
    assert loss.item() == pytest.approx(expected)


def test_one_bucket_is_the_global_reading():
    richness = torch.rand(32, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(32, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    terms = [
        fitted(kind, richness=richness)(weights.relu(), richness)["sparsity"]
        for kind in (BucketSparsity, GlobalSparsity)
    ]
    assert torch.equal(*terms)


def test_theta_meets_the_mean_target():
    target = MeanTarget(mean=0.4)
    target.fit(torch.linspace(0, 1, 1001), slots=5)
    assert target.theta.item() == pytest.approx(0.8)
    assert target(torch.linspace(0, 1, 1001)).mean().item() == pytest.approx(0.4)


def test_theta_keeps_a_slot_for_the_poorest_and_says_so(caplog):
    target = MeanTarget(mean=2 / 3)
    target.fit(torch.linspace(0, 1, 1001), slots=6)
    assert target.theta.item() == pytest.approx(1 - 1 / 6)
    assert "convex" in caplog.text


def test_a_convex_target_reaches_what_a_line_cannot():
    """Uniform richness: mean(1 - N^p) = p / (p + 1), so theta 5/6 reaches 2/3 at p = 4."""
    target = ConvexTarget(mean=2 / 3)
    richness = (torch.arange(100_000) + 0.5) / 100_000
    target.fit(richness, slots=6)
    assert target.shape.item() == pytest.approx(4, rel=1e-3)
    assert target(richness).mean().item() == pytest.approx(2 / 3, abs=1e-4)


def test_state_survives_a_checkpoint():
    model = fitted(buckets=4, richness=torch.rand(50, generator=torch.Generator().manual_seed(0)))
    model(torch.rand(20, 2), torch.rand(20))
    model.after_step(1, 100)
    fresh = regularizer(buckets=4)
    fresh.load_state_dict(model.state_dict())
    weights, richness = torch.rand(20, 2), torch.rand(20)
    assert torch.equal(fresh(weights, richness)["sparsity"], model(weights, richness)["sparsity"])
    fresh.after_step(2, 100)
    model.after_step(2, 100)
    assert torch.equal(fresh.controller.strength, model.controller.strength)


def test_no_sparsity_has_no_term():
    model = NoSparsity(slots=3)
    model.fit(torch.rand(4))
    assert model(OPEN, torch.zeros(4)) == {}
    model.after_step(1, 10)
