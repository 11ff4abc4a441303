"""Exact top-100 of the whole catalogue against RPG's exact path."""

import torch
from conftest import AtLeast
from references import brute_force, rpg_exact
from shipped import ITEMS

from adasid_exp.functional.scoring import exact_top_k, flat_rows

USERS, SLOTS, CODES, K = 512, 6, 100, 100


def test_exact_top_100_against_rpg(compare):
    torch.manual_seed(0)
    codes = torch.randint(0, CODES, (ITEMS, SLOTS))
    codes[-200:] = codes[:200]  # items that share their SID tie exactly
    log_probs = torch.randn(USERS, SLOTS, CODES).mul(2).log_softmax(-1)
    rows = flat_rows(codes, CODES)
    tokens = codes + CODES * torch.arange(SLOTS)
    mismatches = (exact_top_k(log_probs, rows, K).items.numpy() != brute_force(log_probs, codes, K)).sum()
    assert mismatches == 0
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
