"""Entropy, utilisation and collisions by hand, against scipy, and as laws."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from adasid_exp.functional.codebook import (
    active_length,
    code_counts,
    collision_rate,
    dead_codes,
    gini,
    group_sizes,
    max_collision,
    perplexity,
    sid_groups,
    token_entropy,
    unique_rate,
    utilisation,
)
from adasid_exp.types import PAD


def random_codes(items=500, slots=3, size=7, seed=0):
    return torch.randint(PAD, size, (items, slots), generator=torch.Generator().manual_seed(seed))


def test_uniform_codes_have_the_bound():
    # Spec 13.7: uniform over 100 codes is ln 100 = 4.60517; one code is 0.
    codes = torch.stack([torch.arange(100), torch.zeros(100, dtype=torch.long)], dim=1)
    counts = code_counts(codes, [100, 100])
    torch.testing.assert_close(token_entropy(counts), torch.tensor([4.605170185988092, 0.0]).double())
    torch.testing.assert_close(perplexity(counts), torch.tensor([100.0, 1.0]).double())
    assert utilisation(counts, [100, 100]).tolist() == [1.0, 0.01]


def test_pad_is_no_code():
    # By hand: slot 0 has codes 0, 0, 1 of two items with PAD between; slot 1 is used by nobody.
    codes = torch.tensor([[0, PAD], [PAD, PAD], [0, PAD], [1, PAD]])
    counts = code_counts(codes, [2, 3])
    assert counts.tolist() == [[2, 1, 0], [0, 0, 0]]
    expected = math.log(3) - 2 / 3 * math.log(2)
    torch.testing.assert_close(token_entropy(counts), torch.tensor([expected, 0.0], dtype=torch.float64))
    assert utilisation(counts, [2, 3]).tolist() == [1.0, 0.0]
    assert active_length(codes).tolist() == [1, 0, 1, 1]


def test_counts_and_entropy_match_numpy_and_scipy():
    codes = random_codes()
    counts = code_counts(codes, [7, 7, 7])
    for slot, column in enumerate(codes.T.numpy()):
        expected = np.bincount(column[column != PAD], minlength=7)
        assert counts[slot].tolist() == expected.tolist()
        assert token_entropy(counts)[slot].item() == pytest.approx(entropy(expected))


def test_counts_add_up_over_batches():
    codes = random_codes()
    whole = code_counts(codes, [7, 7, 7])
    assert torch.equal(whole, sum(code_counts(part, [7, 7, 7]) for part in codes.split(123)))


@pytest.mark.parametrize("codes", [[[5]], [[-2]], [[0, 0]]])
def test_codes_outside_their_codebook_raise(codes):
    with pytest.raises(ValueError, match="do not fit codebooks"):
        code_counts(torch.tensor(codes), [5])


def test_collisions_by_hand():
    # Five items, SIDs A A A B C: 3 distinct; PAD is part of the identity.
    codes = torch.tensor([[1, 2], [1, 2], [1, 2], [1, PAD], [PAD, 2]])
    assert group_sizes(codes).sort().values.tolist() == [1, 1, 3]
    assert unique_rate(codes).item() == pytest.approx(3 / 5)
    assert collision_rate(codes).item() == pytest.approx(2 / 5)
    assert max_collision(codes).item() == 3


@pytest.mark.parametrize(("slots", "size"), [(3, 7), (12, 300), (40, 5000)])
def test_groups_are_those_of_unique_rows(slots, size):
    # Reference: torch.unique over rows; the long SIDs do not fit into 64 bits and are packed in turns.
    rows = random_codes(items=50, slots=slots, size=size)
    codes = rows[torch.randint(0, 50, (400,), generator=torch.Generator().manual_seed(1))]
    _, inverse = torch.unique(codes, dim=0, return_inverse=True)
    assert torch.equal(sid_groups(codes), inverse)


def test_gini_by_hand_and_against_its_definition():
    # By hand: equal use 0; one of four codes 3/4; a slot of two codes used 1:3 is 1/4, though counts are padded to 4.
    counts = torch.tensor([[5, 5, 5, 5], [0, 9, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0]])
    sizes = [4, 4, 2, 4]
    torch.testing.assert_close(gini(counts, sizes), torch.tensor([0.0, 0.75, 0.25, 0.0], dtype=torch.float64))
    # Reference: mean absolute difference of all pairs over twice the mean.
    uses = np.random.default_rng(0).integers(0, 50, 30)
    expected = np.abs(uses[:, None] - uses).mean() / (2 * uses.mean())
    assert gini(torch.from_numpy(uses)[None], [30]).item() == pytest.approx(expected)


def test_dead_codes_are_counted_within_each_codebook():
    assert dead_codes(torch.tensor([[5, 0, 1, 0], [1, 3, 0, 0]]), [4, 2]).tolist() == [2, 0]
