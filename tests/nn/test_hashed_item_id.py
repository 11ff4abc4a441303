"""Hashed item vectors: against a loop in Python integers, and the laws of a bounded table."""

import pytest
import torch

from adasid_exp.nn.hashed_embedding import PRIME
from adasid_exp.nn.representations.hashed_item_id import HashedItemId

LARGEST = 48_000_000


def test_a_vector_is_the_sum_of_its_rows_by_hand():
    """The reference hashes in Python's unbounded integers: the product may not overflow."""
    model = HashedItemId(rows=1000, hashes=3, dim=4, prior_dim=2)
    items = torch.tensor([[0, 1], [LARGEST - 1, 12_345_678]])
    pairs = list(zip(model.vectors.factors.tolist(), model.vectors.shifts.tolist(), strict=True))
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows = [(a * int(items[place]) + b) % PRIME % 1000 for a, b in pairs]
        torch.testing.assert_close(model(items)[place], model.vectors.weight[rows].sum(0))
        torch.testing.assert_close(model.prior(items[place].view(1))[0], model.priors.weight[rows].sum(0))


def test_size_depends_on_rows_alone_and_gradients_reach_the_rows():
    model = HashedItemId(rows=50, hashes=2, dim=3, prior_dim=1)
    assert sum(parameter.numel() for parameter in model.parameters()) == 50 * (3 + 1)
    item = torch.tensor([LARGEST])
    model(item).sum().backward()
    touched = model.vectors.weight.grad.sum(1).nonzero().squeeze(1)
    assert touched.tolist() == sorted(set(model.vectors.hashed(item)[0].tolist()))


def test_rows_fill_evenly_and_few_items_share_all_of_theirs():
    """Law of universal hashing: of n items on R rows twice, about n^2 / R^2 pairs share both rows, in either order."""
    model = HashedItemId(rows=10_000, hashes=2, dim=1, prior_dim=1)
    rows = model.vectors.hashed(torch.arange(20_000))
    loads = rows.flatten().bincount(minlength=10_000)
    assert loads.sum() == 40_000
    assert loads.max() < 30  # the mean is 4
    same = 20_000 - len(rows.sort(1).values.unique(dim=0))
    assert same <= 12  # expected: 4


def test_hash_functions_do_not_follow_the_seed():
    torch.manual_seed(1)
    first = HashedItemId(rows=100, hashes=2, dim=1, prior_dim=1).vectors.hashed(torch.arange(50))
    torch.manual_seed(2)
    assert torch.equal(first, HashedItemId(rows=100, hashes=2, dim=1, prior_dim=1).vectors.hashed(torch.arange(50)))


def test_a_table_without_rows_is_refused():
    with pytest.raises(ValueError, match="2 hashes into 0 rows"):
        HashedItemId(rows=0, hashes=2, dim=1, prior_dim=1)
