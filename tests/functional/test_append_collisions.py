"""New items beside published SIDs: what moves, where to, and what may not; codes of 16 bits give what 64 give."""

import pytest
import torch
from test_collisions import random_case, table

from adasid_exp.functional.collisions import DedupToken, Leave, NearestFree, Sinkhorn, colliding
from adasid_exp.types import PAD, UserError

SIZES = (5, 5, 5)
FREE = NearestFree(candidates=256)


def appended(policy, codes, distance, fixed):
    new = table(codes[fixed:], SIZES)
    return policy.append(codes[:fixed].to(torch.int16), new, lambda rows: distance[rows + fixed])


def test_one_new_item_takes_the_cheapest_free_sid_by_enumeration():
    codes, distance = random_case(items=40, padded=0.0)
    taken = {tuple(sid) for sid in codes[:39].tolist()}
    codes[39] = codes[0]
    own = codes[39].tolist()
    costs = {}
    for slot in range(3):
        for code in range(5):
            sid = (*own[:slot], code, *own[slot + 1 :])
            if sid not in taken:
                costs[sid] = float(distance[39, slot, code] - distance[39, slot, own[slot]])
    after = appended(FREE, codes, distance, 39).codes
    assert tuple(after[0].tolist()) == min(costs, key=costs.get)


@pytest.mark.parametrize("policy", [FREE, Sinkhorn(epsilon=0.003, iterations=10, rounds=5)])
def test_new_items_end_alone_and_only_colliding_ones_move(policy):
    codes, distance = random_case(items=60, padded=0.1)
    alone = ~colliding(codes)[45:]
    after = appended(policy, codes, distance, 45).codes
    whole = torch.cat([codes[:45], after])
    assert not colliding(whole)[45:].any()
    assert torch.equal(after[alone], codes[45:][alone])
    assert ((after == PAD) == (codes[45:] == PAD)).all()


def test_where_no_published_item_holds_a_sid_one_new_item_keeps_it():
    distance = torch.rand(3, 3, 5, generator=torch.Generator().manual_seed(1))
    codes = torch.tensor([[4, 4, 4], [0, 0, 0], [0, 0, 0]])
    after = appended(FREE, codes, distance, 1).codes
    assert (after == 0).all(dim=1).sum() == 1


def test_dedup_tokens_go_on_behind_the_published_ones():
    """By hand: SID (1, 1, 1) is held twice, so the next two items get 2 and 3; (2, 2, 2) is new and gets 0."""
    published = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    new = table([[1, 1, 1], [2, 2, 2], [1, 1, 1]], SIZES)
    after = DedupToken(bound=None).append(published, new, lambda rows: rows)
    assert after.codes[:, 3].tolist() == [2, 0, 3]
    assert after.modalities[-1] == "dedup"
    with pytest.raises(UserError, match=r"collisions\.bound"):
        DedupToken(bound=2)(table([[1, 1, 1]] * 3, SIZES), lambda rows: rows)


def test_leaving_them_leaves_them():
    codes, distance = random_case()
    assert torch.equal(appended(Leave(), codes, distance, 30).codes, codes[30:])


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("policy", [FREE, Sinkhorn(epsilon=0.003, iterations=10, rounds=5), DedupToken(bound=None)])
def test_codes_of_16_bits_give_what_64_give(policy, ordered):
    codes, distance = random_case()
    wide = policy(table(codes, SIZES, ordered), lambda rows: distance[rows])
    narrow = policy(table(codes.short(), SIZES, ordered), lambda rows: distance[rows])
    assert narrow.codes.dtype == torch.int16
    assert torch.equal(narrow.codes.long(), wide.codes)
