"""Exact top-100 of millions of items, 8 slots of 300 codes, against RPG's exact path, each other and the load port."""

import pytest
import torch
from bench_scoring import LargestResult
from floors import LANES, load_port
from references import rpg_exact

from adasid_exp.functional import integer_filter, scoring_numba
from adasid_exp.functional.integer_filter_kernels import LANES as USERS_OF_BYTES
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


MANY_USERS = 128
"""Two tables of bytes."""

SHARPNESS = {"peaked": 6.0, "opinions": 2.0, "nearly flat": 0.01, "uniform": 0.0}
"""Spread of a user's logits; uniform: every item ties, and the filter leaves the work to the numba scan."""


@pytest.fixture(scope="module", params=[1, 4], ids=["1M", "4M"])
def large(request):
    """Codes of a million items and of four, made ready for the filter."""
    generator = torch.Generator().manual_seed(0)
    rows = flat_rows(torch.randint(0, CODES, (request.param * ITEMS, SLOTS), generator=generator), CODES)
    rows[-200:] = rows[:200]
    return request.param, rows, integer_filter.filtered(rows)


def users_of(sharpness):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(MANY_USERS, SLOTS, CODES, generator=generator).mul(sharpness).log_softmax(-1)


@pytest.mark.parametrize("table", SHARPNESS)
def test_filter_against_numba(compare, large, table):
    """Lists and scores are those of the numba scan bit for bit; how much sooner depends on the users."""
    millions, rows, ready = large
    log_probs = users_of(SHARPNESS[table])
    ours, plain = integer_filter.filtered_top_k(log_probs, ready, K), scoring_numba.exact_top_k(log_probs, rows, K)
    assert torch.equal(ours.items, plain.items)
    assert torch.equal(ours.scores, plain.scores)
    compare(
        f"exact top-100 of {millions} M, integer filter, {table}",
        AtLeast(goal=0.7 if table == "uniform" else 2.0),
        ours=lambda: integer_filter.filtered_top_k(log_probs, ready, K),
        ours_units=MANY_USERS,
        reference=lambda: scoring_numba.exact_top_k(log_probs, rows, K),
        reference_units=MANY_USERS,
        against="the numba scan, a user",
        note=f"load-port floor in bytes {byte_floor(millions) * 1e3:.3f} ms a user",
        rounds=3,
    )


@pytest.mark.parametrize("table", ["peaked", "opinions", "nearly flat"])
def test_filter_against_rpg(compare, large, table):
    millions, rows, ready = large
    log_probs, tokens = users_of(SHARPNESS[table]), rows.long()
    top = integer_filter.filtered_top_k(log_probs, ready, K)
    few = log_probs[:RPG_USERS]
    torch.testing.assert_close(top.scores[:RPG_USERS] / SLOTS, rpg_exact(few, tokens, K)[1])
    compare(
        f"exact top-100 of {millions} M, integer filter, {table}",
        AtLeast(goal=140.0),
        ours=lambda: integer_filter.filtered_top_k(log_probs, ready, K),
        ours_units=MANY_USERS,
        reference=lambda: rpg_exact(few, tokens, K),
        reference_units=RPG_USERS,
        against="RPG's exact path, a user",
        note=f"load-port floor in bytes {byte_floor(millions) * 1e3:.3f} ms a user",
        rounds=3,
    )


def byte_floor(millions):
    """Seconds that the look-ups of a user take at one 64-byte load a cycle that serves 64 users."""
    return load_port(millions * ITEMS * SLOTS) * LANES / USERS_OF_BYTES
