"""Exact top-100 of a million items, 8 slots of 300 codes, against RPG's exact path and the load port."""

import pytest
import torch
from bench_scoring import LargestResult
from floors import load_port
from references import rpg_exact

from adasid_exp.functional import scoring_numba
from adasid_exp.functional.scoring import exact_top_k, flat_rows
from conftest import AtLeast

ITEMS, SLOTS, CODES, K, USERS = 1_000_000, 8, 300, 100, 32
RPG_USERS = 2
"""RPG's path holds [users, items, slots]: two users are 64 MB."""


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    codes = torch.randint(0, CODES, (ITEMS, SLOTS))
    codes[-200:] = codes[:200]  # items that share their SID tie exactly
    return codes, torch.randn(USERS, SLOTS, CODES).mul(2).log_softmax(-1)


def against_rpg(compare, problem, name, goal, top_k):
    codes, log_probs = problem
    rows, tokens = flat_rows(codes, CODES), codes + CODES * torch.arange(SLOTS)
    top = top_k(log_probs, rows, K)
    reference = rpg_exact(log_probs[:RPG_USERS], tokens, K)
    torch.testing.assert_close(top.scores[:RPG_USERS] / SLOTS, reference[1])  # RPG takes the mean over slots
    floor = load_port(ITEMS * SLOTS)
    compare(
        name,
        AtLeast(goal=goal),
        ours=lambda: top_k(log_probs, rows, K),
        ours_units=USERS,
        reference=lambda: rpg_exact(log_probs[:RPG_USERS], tokens, K),
        reference_units=RPG_USERS,
        against="RPG's exact path, a user",
        note=f"load-port floor {floor * 1e3:.2f} ms a user",
        rounds=3,
    )


def test_torch_top_100_of_a_million(compare, problem):
    codes, log_probs = problem
    rows, sizes = flat_rows(codes, CODES), []
    for part in (rows[: ITEMS // 4], rows):
        with LargestResult() as seen:
            exact_top_k(log_probs, part, K)
        sizes.append(seen.bytes)
    assert sizes[0] == sizes[1]  # law: four times the items, and no larger array
    against_rpg(compare, problem, "exact top-100 of 1 M", 4.0, exact_top_k)


def test_numba_top_100_of_a_million(compare, problem):
    codes, log_probs = problem
    rows = flat_rows(codes, CODES)
    ours, plain = scoring_numba.exact_top_k(log_probs, rows, K), exact_top_k(log_probs, rows, K)
    assert torch.equal(ours.items, plain.items)
    assert torch.equal(ours.scores, plain.scores)
    against_rpg(compare, problem, "exact top-100 of 1 M, numba", 9.0, scoring_numba.exact_top_k)


def test_numba_top_100_at_beauty_size(compare):
    torch.manual_seed(0)
    codes = torch.randint(0, 100, (12_101, 6))
    log_probs, rows = torch.randn(512, 6, 100).mul(2).log_softmax(-1), flat_rows(codes, 100)
    compare(
        "exact top-100, numba",
        AtLeast(goal=4.0),
        ours=lambda: scoring_numba.exact_top_k(log_probs, rows, K),
        reference=lambda: rpg_exact(log_probs, codes + 100 * torch.arange(6), K),
        against="RPG's exact path at Beauty's size",
    )
