"""Item representations: look-ups against loops over slots, and the laws of spec'd SID inputs."""

from dataclasses import replace

import pytest
import torch

from adasid_exp.nn.representations.item_id import ItemId
from adasid_exp.nn.representations.sid import Sid, table_rows, unit_mean_weights
from adasid_exp.nn.representations.sid_id import SidAndItemId
from adasid_exp.nn.representations.slot_weights import (
    IgnoredWeights,
    InputWeights,
    ScalingInputWeights,
    ScalingWeights,
)
from adasid_exp.types import PAD, SidTable

WAYS = [IgnoredWeights(), ScalingWeights(), InputWeights(), ScalingInputWeights()]
SCALING = [ScalingWeights(), ScalingInputWeights()]


def sids():
    return SidTable(
        codes=torch.tensor([[0, 2, PAD], [1, 0, 3], [1, 1, 0], [0, 0, 1]]),
        weights=torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.5], [1.0, 1.0, 1.0], [1.0, 1.0, 1.5]]),
        sizes=(2, 3, 4),
        modalities=("shared", "text", "behavior"),
        ordered=False,
    )


def build(table, way=None):
    torch.manual_seed(0)
    return Sid(sids=table, dim=6, slot_dim=5, prior_dim=2, slot_weights=way or ScalingWeights())


def test_rows_of_the_one_table_by_hand():
    # Slots start at 1, 1 + 2 and 1 + 2 + 3; row 0 is the unused slot.
    assert table_rows(sids()).tolist() == [[1, 5, 0], [2, 3, 9], [2, 4, 6], [1, 3, 7]]


def test_codes_outside_their_codebook_are_refused():
    with pytest.raises(ValueError, match="codebooks"):
        table_rows(replace(sids(), codes=torch.tensor([[2, 0, 0]])))


def test_behavior_weights_get_mean_one_and_others_stay():
    doubled = replace(sids(), weights=sids().weights * torch.tensor([1.0, 1.0, 8.0]))
    expected = torch.tensor([0.0, 0.5, 1.0, 1.5])  # their mean over the three used slots is 1 already
    torch.testing.assert_close(unit_mean_weights(doubled)[:, 2], expected)
    torch.testing.assert_close(unit_mean_weights(sids()), sids().weights)
    assert bool((unit_mean_weights(doubled)[:, :2] == 1).all())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: type(way).__name__)
def test_vectors_equal_a_loop_over_items_and_slots(way):
    table, model = sids(), build(sids(), way)
    scaled = isinstance(way, tuple(type(one) for one in SCALING))
    for item in range(4):
        parts = []
        for slot, offset in enumerate((1, 3, 6)):
            code, weight = int(table.codes[item, slot]), table.weights[item, slot]
            vector = torch.zeros(5) if code == PAD else model.table.weight[offset + code]
            parts.append(vector * weight if scaled else vector)
        if isinstance(way, (InputWeights, ScalingInputWeights)):
            parts.append(table.weights[item])
        features = torch.cat(parts)
        found = model(torch.tensor([item]))[0]
        torch.testing.assert_close(found, model.projection.weight @ features + model.projection.bias)
        prior = model.prior(torch.tensor([item]))[0]
        torch.testing.assert_close(prior, model.prior_projection.weight @ features + model.prior_projection.bias)


def test_few_and_many_look_ups_agree():
    model = build(sids())
    items = torch.tensor([[3, 1], [0, 0], [2, 1]])  # more look-ups than items
    alone = torch.stack([torch.cat([model(one[None]) for one in row]) for row in items])
    torch.testing.assert_close(model(items), alone)


@pytest.mark.parametrize("way", SCALING, ids=lambda way: type(way).__name__)
def test_weight_zero_equals_an_unused_slot(way):
    weights, codes = sids().weights.clone(), sids().codes.clone()
    weights[3, 2] = 0.0
    muted = replace(sids(), weights=weights)
    codes[3, 2] = PAD
    absent = replace(muted, codes=codes)
    item = torch.tensor([3])
    torch.testing.assert_close(build(muted, way)(item), build(absent, way)(item), rtol=0, atol=0)


def test_unused_slots_stay_zero_in_training():
    model = build(sids(), IgnoredWeights())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.arange(4)).square().sum().backward()
        optimizer.step()
    assert bool((model.table.weight[0] == 0).all())
    assert bool((model.table.weight[1:] != 0).all())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: type(way).__name__)
def test_permuting_slots_with_their_tables_changes_nothing(way):
    order, table = [2, 0, 1], sids()
    permuted = SidTable(
        codes=table.codes[:, order],
        weights=table.weights[:, order],
        sizes=tuple(table.sizes[i] for i in order),
        modalities=tuple(table.modalities[i] for i in order),
        ordered=False,
    )
    one, other = build(table, way), build(permuted, way)
    blocks = one.table.weight[1:].split([2, 3, 4])
    columns = torch.arange(15).split(5)
    extra = [torch.tensor([15 + i]) for i in order] if one.projection.in_features > 15 else []
    with torch.no_grad():
        other.table.weight[1:] = torch.cat([blocks[i] for i in order])
        other.projection.weight.copy_(one.projection.weight[:, torch.cat([columns[i] for i in order] + extra)])
    torch.testing.assert_close(one(torch.arange(4)), other(torch.arange(4)))


def test_gates_send_no_gradient_into_the_slots():
    model = build(sids())
    model.prior(torch.arange(4)).sum().backward()
    assert model.table.weight.grad is None
    assert model.prior_projection.weight.grad is not None


def test_item_id_and_sum_of_both():
    torch.manual_seed(0)
    both = SidAndItemId(items=4, sids=sids(), dim=6, slot_dim=5, prior_dim=2, slot_weights=ScalingWeights())
    items = torch.tensor([[1, 1], [3, 0]])
    torch.testing.assert_close(both(items), both.sid(items) + both.item_id.vectors.weight[items])
    torch.testing.assert_close(both.prior(items[0]), both.sid.prior(items[0]) + both.item_id.priors.weight[items[0]])
    alone = ItemId(items=4, dim=6, prior_dim=2)
    assert torch.equal(alone(items), alone.vectors.weight[items])
    assert {alone.dim, both.dim, build(sids()).dim} == {6}
