"""Collision policies: small cases by hand, laws, and a greedy choice written out as reference."""

import math

import pytest
import torch

from adasid_exp.functional.codebook import collision_rate, sid_groups
from adasid_exp.functional.collisions import (
    DEDUP,
    DedupToken,
    Leave,
    NearestFree,
    Sinkhorn,
    cheapest_first,
    colliding,
    key_parts,
    keys_of,
    last_used_slot,
    place_in_group,
    transport_plan,
)
from adasid_exp.types import PAD, SidTable, UserError


def table(codes, sizes, ordered=False):
    codes = torch.as_tensor(codes)
    return SidTable(
        codes=codes,
        weights=(codes != PAD).float() * 2.0,
        sizes=tuple(sizes),
        modalities=("text",) * len(sizes),
        ordered=ordered,
    )


def random_case(items=60, slots=3, size=5, seed=0, padded=0.2):
    """Distances drawn at random, codes their argmin with some PAD: many items share a SID."""
    generator = torch.Generator().manual_seed(seed)
    distance = torch.rand(items, slots, size, generator=generator)
    codes = distance[..., :2].argmin(dim=-1)  # only two codes of each slot are in use
    codes[torch.rand(items, slots, generator=generator) < padded] = PAD
    return codes, distance


def cost_of(before, after, distance):
    """Growth in squared distance, over slots in use."""
    gain = distance.gather(2, after.clamp(min=0)[..., None]) - distance.gather(2, before.clamp(min=0)[..., None])
    return gain.squeeze(-1)[before != PAD].sum().item()


def greedy(codes, distance, sizes, ordered):
    """Reference: again and again the cheapest single move of any item that shares its SID (later item if equal)."""
    codes = [tuple(row) for row in codes.tolist()]
    original = list(codes)
    moved = set()
    while True:
        moves = []
        for item, sid in enumerate(codes):
            if item in moved or codes.count(sid) < 2:
                continue
            used = [slot for slot, code in enumerate(sid) if code != PAD]
            for slot in used[-1:] if ordered else used:
                for code in range(sizes[slot]):
                    other = (*sid[:slot], code, *sid[slot + 1 :])
                    if other not in codes and other not in original:
                        price = (distance[item, slot, code] - distance[item, slot, sid[slot]]).item()
                        moves.append((price, -item, slot, code, other))
        if not moves:
            return torch.tensor(codes)
        _, item, _, _, other = min(moves)
        codes[-item] = other
        moved.add(-item)


def test_none_changes_nothing():
    sids = table([[0, 1], [0, 1]], [2, 2])
    assert Leave()(sids, lambda rows: torch.zeros(0)) is sids


def test_dedup_numbers_the_items_of_a_sid_in_catalogue_order():
    # By hand: A B A A, C alone; PAD is part of the identity.
    sids = table([[1, 2], [1, PAD], [1, 2], [1, 2], [0, 0]], [2, 3])
    out = DedupToken(bound=None)(sids, lambda rows: torch.zeros(0))
    assert out.codes[:, 2].tolist() == [0, 0, 1, 2, 0]
    assert out.sizes == (2, 3, 3)
    assert out.modalities == ("text", "text", DEDUP)
    assert out.weights[:, 2].tolist() == [1.0] * 5
    assert torch.equal(out.codes[:, :2], sids.codes)
    assert collision_rate(out.codes).item() == 0.0


def test_dedup_bound_is_the_size_of_the_slot_and_an_error_beyond():
    sids = table([[0], [0], [0], [1]], [2])
    assert DedupToken(bound=7)(sids, lambda rows: torch.zeros(0)).sizes == (2, 7)
    with pytest.raises(UserError, match=r"collisions\.bound: 3 items share a SID, 2 may"):
        DedupToken(bound=2)(sids, lambda rows: torch.zeros(0))


def test_place_in_group_counts_the_earlier_ones():
    assert place_in_group(torch.tensor([[3], [1], [3], [1], [3], [0]])).tolist() == [0, 0, 1, 1, 2, 0]


def test_last_used_slot_skips_pad():
    assert last_used_slot(torch.tensor([[0, PAD, 2], [1, 1, PAD], [PAD, PAD, PAD]])).tolist() == [2, 1, -1]


@pytest.mark.parametrize("sizes", [(3, 4), (300,) * 9])
def test_keys_tell_all_sids_apart(sizes):
    # Law: equal keys exactly for equal SIDs, also where SIDs do not fit into 62 bits.
    codes = torch.randint(PAD, min(sizes), (400, len(sizes)), generator=torch.Generator().manual_seed(1))
    codes = codes[torch.randint(0, 40, (400,), generator=torch.Generator().manual_seed(2))]
    keys = keys_of(codes, key_parts(sizes))
    assert torch.equal(keys[:, None] == keys, sid_groups(codes)[:, None] == sid_groups(codes))


def test_nearest_free_by_hand():
    # Items 0, 1, 2 share (0, 0); 3 holds (0, 1). Free for slot 1: code 2; for slot 0: code 1.
    # Costs: item 0: slot 0 code 1 costs 5, slot 1 code 2 costs 9; item 1: 1 and 4; item 2: 2 and 3.
    # Item 1 takes (1, 0) at 1; item 2 wanted it at 2 and falls back on (0, 2) at 3; item 0 stays.
    sids = table([[0, 0], [0, 0], [0, 0], [0, 1]], [2, 3])
    distance = torch.zeros(4, 2, 3)
    distance[0] = torch.tensor([[0.0, 5, 0], [0, 1, 9]])
    distance[1] = torch.tensor([[0.0, 1, 0], [0, 1, 4]])
    distance[2] = torch.tensor([[0.0, 2, 0], [0, 1, 3]])
    out = NearestFree(candidates=9)(sids, lambda rows: distance[rows])
    assert out.codes.tolist() == [[0, 0], [1, 0], [0, 2], [0, 1]]
    assert torch.equal(out.weights, sids.weights)


def test_nearest_free_of_residual_sids_changes_only_the_last_used_slot():
    # Slot 0 would be cheaper by far; (0, PAD) changes slot 0, its last one in use.
    sids = table([[0, 0], [0, 0], [0, PAD], [0, PAD]], [3, 2], ordered=True)
    distance = torch.tensor([[0.0, 0.1, 0.2], [0.0, 7.0, 0.0]]).expand(4, 2, 3)
    out = NearestFree(candidates=9)(sids, lambda rows: distance[rows])
    assert out.codes.tolist() == [[0, 0], [0, 1], [0, PAD], [1, PAD]]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_nearest_free_equals_the_greedy_choice(ordered, seed):
    codes, distance = random_case(items=30, seed=seed)
    sids = table(codes, (5, 5, 5), ordered=ordered)
    out = NearestFree(candidates=1000)(sids, lambda rows: distance[rows]).codes
    expected = greedy(codes, distance, sids.sizes, ordered)
    assert torch.equal(out, expected)
    assert cost_of(codes, out, distance) <= cost_of(codes, expected, distance) + 1e-5


@pytest.mark.parametrize("policy", [NearestFree(candidates=3), Sinkhorn(epsilon=0.003, iterations=50, rounds=20)])
@pytest.mark.parametrize("seed", range(4))
def test_with_room_nobody_collides_and_only_colliding_items_move(policy, seed):
    codes, distance = random_case(items=40, size=40, padded=0.1, seed=seed)
    codes[0] = torch.tensor([1, 1, 1])
    codes[(codes == PAD).all(dim=1)] = 0  # an item without any slot in use cannot move
    sids = table(codes, (40, 40, 40))
    shared = colliding(codes)
    assert shared.sum() > 10
    out = policy(sids, lambda rows: distance[rows]).codes
    assert collision_rate(out).item() == 0.0
    assert torch.equal(out[~shared], codes[~shared])
    assert torch.equal(out == PAD, codes == PAD)
    assert int((out != codes).sum(dim=1).max()) == 1
    assert torch.equal(out, policy(sids, lambda rows: distance[rows]).codes)


@pytest.mark.parametrize("policy", [NearestFree(candidates=9), Sinkhorn(epsilon=0.003, iterations=50, rounds=20)])
def test_without_room_the_rest_stays_as_it_is(policy):
    # Five items share the one slot of three codes: three SIDs exist, so two of five must go on colliding.
    distance = torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(0))
    sids = table([[0, PAD]] * 5 + [[PAD, PAD]], (3, 3))
    out = policy(sids, lambda rows: distance[rows]).codes
    assert len(out[:5, 0].unique()) == 3
    assert torch.equal(out == PAD, sids.codes == PAD)


def test_slots_keep_to_their_own_size():
    # Codes 2.. do not exist in slot 0 though distances offer them for nothing.
    sids = table([[0, 0], [0, 0]], (2, 4))
    distance = torch.tensor([[0.0, 9.0, 0.0, 0.0], [0.0, 9.5, 9.5, 9.5]]).expand(2, 2, 4)
    out = NearestFree(candidates=9)(sids, lambda rows: distance[rows]).codes
    assert out.tolist() == [[0, 0], [1, 0]]


def test_the_cheapest_goes_first_through_a_chain_of_refusals():
    # By hand: 0 and 1 want target 7, 1 is cheaper; 0 then wants 8, where 2 is cheaper; 0 ends at 9.
    # Item 3 stays for all: its group is everyone and its move costs most.
    cost = torch.tensor([[2.0, 3.0, 4.0], [1.0, 5.0, math.inf], [2.5, math.inf, math.inf], [6.0, 7.0, 8.0]])
    target = torch.tensor([[7, 8, 9], [7, 8, 0], [8, 0, 0], [1, 2, 3]])
    assert cheapest_first(cost, target, torch.zeros(4, dtype=torch.long)).tolist() == [2, 0, 0, -1]


def test_transport_plan_is_balanced_and_that_of_the_definition():
    # Reference: the textbook iteration on exp(-cost / epsilon) for one group; law: equal mass for each item.
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(5, 4, generator=generator, dtype=torch.float64)
    groups = torch.tensor([0, 1, 0, 1, 0])
    plan = transport_plan(cost, groups, epsilon=0.5, iterations=200).exp()
    for group in (0, 1):
        kernel = (-cost[groups == group] / 0.5).exp()
        for _ in range(200):
            kernel = kernel / kernel.sum(dim=1, keepdim=True)
            kernel = kernel / kernel.sum(dim=0)
        torch.testing.assert_close(plan[groups == group], kernel)
        torch.testing.assert_close(kernel.sum(dim=1), torch.full_like(kernel[:, 0], 4 / len(kernel)))


def test_sinkhorn_parts_items_with_equal_vectors():
    # LC-Rec leaves them together for good; here they take turns: nearest, second nearest.
    sids = table([[1, 0], [1, 0], [0, 0]], (2, 5), ordered=True)
    distance = torch.tensor([[0.0, 0, 9, 9, 9], [0.0, 3, 1, 2, 4]]).expand(3, 2, 5)
    out = Sinkhorn(epsilon=0.003, iterations=50, rounds=20)(sids, lambda rows: distance[rows]).codes
    assert sorted(out[:2].tolist()) == [[1, 0], [1, 2]]
    assert out[2].tolist() == [0, 0]


def test_sinkhorn_leaves_the_sids_of_others_alone():
    # Code 1 is the second nearest of both, but (0, 1) is taken: one of them goes to code 2.
    sids = table([[0, 0], [0, 0], [0, 1]], (1, 3), ordered=True)
    distance = torch.tensor([[[0.0, 0, 0], [0, 1, 3]], [[0.0, 0, 0], [0, 1, 2]], [[0.0, 0, 0], [5, 0, 5]]])
    out = Sinkhorn(epsilon=0.003, iterations=50, rounds=20)(sids, lambda rows: distance[rows]).codes
    assert out.tolist() == [[0, 0], [0, 2], [0, 1]]
