"""Loads, targets and hand-over weights by hand."""

import pytest
import torch

from adasid_exp.functional.sparsity import (
    bucket_edges,
    bucket_sums,
    expert_load,
    handover_weights,
    item_load,
    printed_load,
    target_sparsity,
)


def test_target_falls_from_theta_to_zero():
    target = target_sparsity(torch.tensor([0.0, 0.25, 1.0]), theta=torch.tensor(0.8), shape=torch.tensor(1.0))
    torch.testing.assert_close(target, torch.tensor([0.8, 0.6, 0.0]))


def test_shape_bends_the_target():
    target = target_sparsity(torch.tensor([0.5]), theta=torch.tensor(0.8), shape=torch.tensor(2.0))
    assert target.item() == pytest.approx(0.6)  # .8 * (1 - .25)


def test_load_is_one_when_every_expert_is_at_target():
    """Four items, target 1/2: each of two experts serves half of them."""
    active = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=torch.bool)
    assert expert_load(active, torch.full((4,), 0.5)).tolist() == [1.0, 1.0]


def test_load_of_an_expert_that_everyone_uses_is_two_at_half():
    active = torch.tensor([[1, 0]] * 4, dtype=torch.bool)
    assert expert_load(active, torch.full((4,), 0.5)).tolist() == [2.0, 0.0]


def test_the_printed_load_is_one_number_for_all_experts():
    """Documents Eq. 23's typo: one overused and one unused expert look balanced."""
    active = torch.tensor([[1, 0]] * 4, dtype=torch.bool)
    load = printed_load(active, torch.full((4,), 0.5))
    assert load.ndim == 0
    assert load.item() == 1.0


def test_item_load_presses_items_of_high_target_harder():
    active = torch.tensor([[1, 0], [1, 1]], dtype=torch.bool)
    load = item_load(active, torch.tensor([0.0, 0.75]))
    torch.testing.assert_close(load, torch.tensor([[1.0, 0.5], [4.0, 2.0]]))


def test_buckets_hold_equal_counts():
    richness = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    bucket = torch.bucketize(richness, bucket_edges(richness, 10), right=True)
    assert torch.bincount(bucket).tolist() == [100] * 10


def test_bucket_sums_by_hand():
    sums, items = bucket_sums(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2, 0, 2]), 3)
    assert sums.tolist() == [2.0, 0.0, 5.0]
    assert items.tolist() == [1.0, 0.0, 2.0]


def test_handover_brings_behavior_to_mean_one_and_leaves_content():
    """Positive behavior weights .1 and .3 have mean .2; the padded slot counts nowhere."""
    codes = torch.tensor([[4, 7, -1], [2, 1, -1]])
    weights = torch.tensor([[1.0, 0.1, 0.0], [1.0, 0.3, 0.0]])
    omega = handover_weights(codes, weights, ("text", "behavior", "behavior"))
    torch.testing.assert_close(omega, torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.5, 0.0]]))


def test_handover_clips_at_four():
    codes = torch.zeros(10, 1, dtype=torch.int64)
    weights = torch.tensor([[91.0]] + [[1.0]] * 9)  # mean 10
    omega = handover_weights(codes, weights, ("behavior",))
    assert omega[0].item() == 4.0
    assert omega[1].item() == pytest.approx(0.1)


def test_handover_of_a_method_without_weights_is_one():
    codes = torch.tensor([[0, 3], [1, -1]])
    omega = handover_weights(codes, torch.ones(2, 2), ("text", "behavior"))
    assert omega.tolist() == [[1.0, 1.0], [1.0, 0.0]]


def test_handover_where_every_behavior_slot_is_off():
    codes = torch.tensor([[0, -1]])
    assert handover_weights(codes, torch.tensor([[1.0, 0.0]]), ("text", "behavior")).tolist() == [[1.0, 0.0]]
