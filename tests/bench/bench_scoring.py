"""Exact top-100 of the whole catalogue against RPG's exact path."""

import torch
from references import brute_force, rpg_exact
from shipped import ITEMS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adasid_exp.functional.scoring import exact_top_k, flat_rows
from conftest import AtLeast

USERS, SLOTS, CODES, K = 512, 6, 100, 100


class LargestResult(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that any operation returned."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.bytes = max([self.bytes, *(tensor.nbytes for tensor in tensors)])
        return result


def largest_result(users, items):
    """Bytes of the largest tensor while the best items of so many users are found."""
    rows = flat_rows(torch.randint(0, CODES, (items, SLOTS)), CODES)
    log_probs = torch.randn(users, SLOTS, CODES)
    with LargestResult() as seen:
        exact_top_k(log_probs, rows, K)
    return seen.bytes


def test_exact_top_100_against_rpg(compare):
    torch.manual_seed(0)
    codes = torch.randint(0, CODES, (ITEMS, SLOTS))
    codes[-200:] = codes[:200]  # items that share their SID tie exactly
    log_probs = torch.randn(USERS, SLOTS, CODES).mul(2).log_softmax(-1)
    rows = flat_rows(codes, CODES)
    tokens = codes + CODES * torch.arange(SLOTS)
    mismatches = (exact_top_k(log_probs, rows, K).items.numpy() != brute_force(log_probs, codes, K)).sum()
    assert mismatches == 0
    # Law: with more users or more items the blocks grow in number, not in size.
    assert largest_result(64, 70_000) == largest_result(128, 70_000) == largest_result(64, 140_000)
    compare(
        "exact top-100",
        AtLeast(goal=2.5),
        ours=lambda: exact_top_k(log_probs, rows, K),
        ours_units=USERS,
        reference=lambda: rpg_exact(log_probs, tokens, K),
        reference_units=USERS,
        against="RPG's exact path, a user",
        note=f"{mismatches} mismatches against brute force",
        rounds=7,
    )
