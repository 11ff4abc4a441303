"""Neighbors within histories, by hand and against dense numpy."""

import numpy as np
import pytest
import torch

from adasid_exp.functional.cooccurrence import (
    Neighbors,
    cosine,
    draw_neighbors,
    nearest_items,
    positive_pairs,
    preceding_items,
)

# Users: 0 1 2 | 0 1 | 3 0 1 | 4; item 5 is met by nobody.
ITEMS, OFFSETS = torch.tensor([0, 1, 2, 0, 1, 3, 0, 1, 4]), torch.tensor([0, 3, 5, 8, 9])


def random_histories(users=40, size=15):
    generator = torch.Generator().manual_seed(0)
    length = torch.randint(1, 9, (users,), generator=generator)
    items = torch.randint(0, size - 1, (int(length.sum()),), generator=generator)
    return items, torch.cat([torch.zeros(1, dtype=torch.int64), length.cumsum(0)])


def dense_cosine(items, offsets, size):
    seen = np.zeros((len(offsets) - 1, size))
    for user, (first, last) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        seen[user, items[first:last].numpy()] = 1
    lengths = np.maximum(np.sqrt(seen.sum(0)), 1)
    similar = seen.T @ seen / np.outer(lengths, lengths)
    np.fill_diagonal(similar, 0)
    return similar


def test_cosine_against_dense_and_leaves_its_input():
    items, offsets = random_histories()
    before = items.clone(), offsets.clone()
    np.testing.assert_allclose(cosine(items, offsets, 15).toarray(), dense_cosine(*before, 15), rtol=1e-5)
    assert torch.equal(items, before[0])
    assert torch.equal(offsets, before[1])


def test_nearest_items_by_hand():
    # cos(0,1) = 1; cos(0,2) = cos(0,3) = cos(1,2) = cos(1,3) = 1/sqrt(3): of equal ones the earlier.
    item, near = nearest_items(cosine(ITEMS, OFFSETS, 6), top=2)
    assert list(zip(item.tolist(), near.tolist(), strict=True)) == [
        (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1)
    ]  # fmt: skip


def test_preceding_items_against_a_loop():
    items, offsets = random_histories()
    similar = cosine(items, offsets, 15)
    dense = similar.toarray()
    for history in (1, 3, 50):
        expected = []
        for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            for place in range(first, last):
                before = items[max(first, place - history) : place].flip(0).numpy()
                scores = dense[items[place].item(), before]
                if len(before) and scores.max() > 0:
                    expected.append((items[place].item(), before[scores.argmax()]))
        found = preceding_items(items, offsets, similar, history)
        assert list(zip(*(part.tolist() for part in found), strict=True)) == expected


def test_pairs_are_the_union_once():
    pairs = positive_pairs(ITEMS, OFFSETS, size=6, top=1, history=1)
    # Nearest: 0-1, 1-0, 2-0, 3-0. Preceding: 1 after 0 (three times), 2 after 1, 0 after 3.
    assert pairs.starts.tolist() == [0, 2, 3, 5, 6, 6, 6]
    assert pairs.neighbors.tolist() == [1, 3, 0, 0, 1, 0]


def test_only_what_is_shown_counts():
    # Law: an interaction that is not in the histories changes nothing; nobody's histories give no pairs.
    none = positive_pairs(torch.zeros(0, dtype=torch.int64), torch.tensor([0]), size=4, top=2, history=5)
    assert none.starts.tolist() == [0] * 5
    index = torch.tensor([1, 3])
    drawn, known = draw_neighbors(none, index, torch.rand(len(index)))
    assert torch.equal(drawn, index)
    assert not known.any()


def test_draws_are_uniform_over_neighbors():
    neighbors = Neighbors(starts=torch.tensor([0, 3, 3, 4]), neighbors=torch.tensor([5, 6, 7, 8]))
    index = torch.tensor([0, 1, 2]).repeat(3000)
    drawn, known = draw_neighbors(neighbors, index, torch.rand(len(index), generator=torch.Generator().manual_seed(0)))
    assert known.tolist()[:3] == [True, False, True]
    assert bool((drawn[1::3] == 1).all())
    assert bool((drawn[2::3] == 8).all())
    values, counts = drawn[0::3].unique(return_counts=True)
    assert values.tolist() == [5, 6, 7]
    # Standard deviation of a third of 3000 draws: 26.
    assert counts.tolist() == pytest.approx([1000] * 3, abs=4 * 26)
