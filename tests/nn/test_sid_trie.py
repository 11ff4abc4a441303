"""The trie against prefixes counted in Python."""

import pytest
import torch

from adasid_exp.nn.sid_trie import SidTrie


def test_branches_are_the_prefixes_that_exist():
    """Reference: sets of tuples. Every range of every level, all at once, has exactly its continuations."""
    classes = torch.unique(torch.randint(0, 4, (90, 4), generator=torch.Generator().manual_seed(0)), dim=0)
    classes = classes[torch.randperm(len(classes), generator=torch.Generator().manual_seed(1))]
    trie = SidTrie(classes=classes)
    assert torch.equal(classes[trie.order], trie.rows)
    tuples = [tuple(row) for row in classes.tolist()]
    low, high = torch.tensor([0]), torch.tensor([len(classes)])
    for slot in range(4):
        before = [tuple(trie.rows[start, :slot].tolist()) for start in low]
        many, low, high = trie.branches(slot, low, high)
        after = [tuple(trie.rows[start, : slot + 1].tolist()) for start in low]
        assert after == sorted({row[: slot + 1] for row in tuples})
        assert many.tolist() == [len({row[slot] for row in tuples if row[:slot] == prefix}) for prefix in before]
        assert (high - low).tolist() == [sum(row[: slot + 1] == prefix for row in tuples) for prefix in after]


def test_a_sid_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="3 rows hold only 2"):
        SidTrie(classes=torch.tensor([[0, 1], [1, 1], [0, 1]]))
