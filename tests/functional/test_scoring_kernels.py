"""The numba and the torch.compile scan against the plain one, which `test_scoring` holds to brute force."""

import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scoring import brute_scores, brute_top_k, problem

from adasid_exp.functional import integer_filter, scoring_compiled, scoring_numba
from adasid_exp.functional.scoring import exact_top_k, flat_rows, scan_tile
from adasid_exp.types import UserError


def assert_same(ours, wanted):
    assert torch.equal(ours.items, wanted.items)
    assert torch.equal(ours.scores, wanted.scores)


def factors(items, slots):
    """Quarters and halves: with coarse log-probabilities every sum is exact, in whatever order it is rounded."""
    generator = torch.Generator().manual_seed(9)
    weights = torch.randint(0, 5, (items, slots), generator=generator) / 4
    return {"weights": weights, "prior": torch.randint(-9, 9, (items,), generator=generator) / 2}


@pytest.fixture(scope="module")
def numba_top_k():
    pytest.importorskip("numba")
    return scoring_numba.exact_top_k


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    users=st.integers(1, 70),
    items=st.integers(1, 200),
    slots=st.integers(1, 9),
    size=st.integers(1, 6),
    k=st.integers(1, 220),
    coarse=st.booleans(),
    weighed=st.booleans(),
)
def test_numba_equals_torch_bit_for_bit(numba_top_k, seed, users, items, slots, size, k, coarse, weighed):
    log_probs, codes = problem(seed, users, items, slots, size, coarse or weighed)
    more = factors(items, slots) if weighed else {}
    rows = flat_rows(codes, size + 1)
    assert_same(numba_top_k(log_probs, rows, k, **more), exact_top_k(log_probs, rows, k, **more))


def test_numba_weighs_to_rounding(numba_top_k):
    log_probs, codes = problem(5, users=40, items=500, slots=6, size=9, coarse=False)
    weights, rows = torch.rand(500, 6, generator=torch.Generator().manual_seed(1)), flat_rows(codes, 10)
    ours = numba_top_k(log_probs, rows, 50, weights=weights).scores
    torch.testing.assert_close(ours, exact_top_k(log_probs, rows, 50, weights=weights).scores, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rising", [False, True])
def test_numba_at_length_with_brute_force(numba_top_k, rising):
    """Thousands of items that tie often; rising scores are the scan's worst case, each item beats all before."""
    log_probs, codes = problem(1, users=3, items=5000, slots=2, size=40, coarse=True)
    prior = torch.arange(5000) / 4 if rising else torch.zeros(5000)
    scores = brute_scores(log_probs, codes) + prior
    top = numba_top_k(log_probs, flat_rows(codes, 41), 100, prior=prior)
    assert torch.equal(top.items, brute_top_k(scores, 100))


@pytest.mark.parametrize("width", [8, 64, 200])
def test_torch_at_length_with_brute_force(width):
    """The same for the plain scan, whose tiles and groups do not divide the catalogue."""
    log_probs, codes = problem(1, users=3, items=5001, slots=2, size=40, coarse=True)
    for prior in (torch.zeros(5001), torch.arange(5001) / 4, -torch.arange(5001) / 4):
        top = exact_top_k(log_probs, flat_rows(codes, 41), 10, prior=prior, items_at_once=width)
        assert torch.equal(top.items, brute_top_k(brute_scores(log_probs, codes) + prior, 10))


def test_numba_ranks_the_impossible_last(numba_top_k):
    log_probs = torch.tensor([[[-1.0, float("-inf")], [-2.0, -3.0]]])
    top = numba_top_k(log_probs, flat_rows(torch.tensor([[-1, 0], [0, -1], [0, 0]]), 2), 3)
    assert top.items.tolist() == [[2, 1, 0]]


@pytest.mark.parametrize(
    ("scan", "kernels"),
    [
        (scoring_numba, "adasid_exp.functional.scoring_kernels"),
        (integer_filter, "adasid_exp.functional.integer_filter_kernels"),
    ],
    ids=["numba scan", "integer filter"],
)
def test_without_numba_one_line_says_what_to_install(scan, kernels, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "numba", None)
    monkeypatch.delitem(__import__("sys").modules, kernels, raising=False)
    monkeypatch.delattr(kernels, raising=False)
    log_probs, codes = problem(0, users=1, items=3, slots=1, size=2, coarse=False)
    with pytest.raises(UserError, match=r"adasid-exp\[numba\]"):
        scan.exact_top_k(log_probs, flat_rows(codes, 3), 1)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("items", [64, 300])
def test_what_is_compiled_scores_as_the_plain_scan(monkeypatch, weighed, items):
    """Uncompiled, so that a machine without a compiler holds it too."""
    monkeypatch.setattr(scoring_compiled, "_compiled", lambda: scoring_compiled.scores_and_maxima)
    log_probs, codes = problem(2, users=5, items=items, slots=4, size=6, coarse=weighed)
    more = {"weights": torch.full((items, 4), 0.5), "prior": torch.ones(items)} if weighed else {}
    rows = flat_rows(codes, 7)
    for width in (64, 100):
        fused = exact_top_k(log_probs, rows, 7, scan=scoring_compiled.fused_scan, items_at_once=width, **more)
        assert_same(fused, exact_top_k(log_probs, rows, 7, scan=scan_tile, **more))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_equals_plain():
    log_probs, codes = problem(3, users=5, items=600, slots=4, size=6, coarse=False)
    rows = flat_rows(codes, 7)
    fused = exact_top_k(log_probs, rows, 7, scan=scoring_compiled.fused_scan, items_at_once=100)
    assert_same(fused, exact_top_k(log_probs, rows, 7))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_lists_on_a_gpu():
    log_probs, codes = problem(4, users=70, items=20_000, slots=8, size=30, coarse=True)
    rows = flat_rows(codes, 31)
    wanted = exact_top_k(log_probs, rows, 100)
    for scan in (scan_tile, scoring_compiled.fused_scan):
        ours = exact_top_k(log_probs.cuda(), rows.cuda(), 100, scan=scan, items_at_once=2**18)
        assert torch.equal(ours.items.cpu(), wanted.items)
