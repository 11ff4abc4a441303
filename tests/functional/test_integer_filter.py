"""The integer filter against brute force and the numba scan, and the law that makes it exact."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scoring import brute_scores, brute_top_k, problem
from test_scoring_kernels import assert_same, factors

from adasid_exp.functional import scoring_numba
from adasid_exp.functional.scoring import exact_top_k, flat_rows

pytest.importorskip("numba")

from adasid_exp.functional import integer_filter, integer_filter_kernels


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The sample and the common columns come into play with catalogues that brute force can sort."""
    monkeypatch.setattr(integer_filter, "LOOK", 4)
    monkeypatch.setattr(integer_filter, "MEAN_RUN", 4)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    users=st.integers(1, 70),
    items=st.one_of(st.integers(1, 200), st.integers(1000, 3000)),
    slots=st.integers(1, 9),
    size=st.integers(1, 40),
    k=st.integers(1, 220),
    coarse=st.booleans(),
    given_too=st.sampled_from([(), ("prior",), ("weights",), ("weights", "prior")]),
)
def test_equals_torch_and_numba_bit_for_bit(seed, users, items, slots, size, k, coarse, given_too):
    log_probs, codes = problem(seed, users, items, slots, size, coarse or "weights" in given_too)
    more = {name: factors(items, slots)[name] for name in given_too}
    rows = flat_rows(codes, size + 1)
    ours = integer_filter.exact_top_k(log_probs, rows, k, **more)
    assert_same(ours, exact_top_k(log_probs, rows, k, **more))
    assert_same(ours, scoring_numba.exact_top_k(log_probs, rows, k, **more))


def adversaries():
    """Tables of two users that a filter may trip over, each with the codes of 3,000 items."""
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(0, 20, (3000, 4), generator=generator)
    logits = torch.randn(2, 4, 21, generator=generator)
    alike, dominated, holed, wide = (logits.log_softmax(-1) for _ in range(4))
    dominated[:, 1] = torch.where(torch.arange(21) == 3, 0.0, -1e4)
    holed[:, 0, 2:] = -torch.inf
    holed[1, 2] = -torch.inf
    yield "all equal", torch.full_like(logits, -3.3), codes
    yield "all nought", torch.zeros_like(logits), codes
    yield "nearly equal", logits * 1e-7 - 3.0, codes
    yield "one slot dominates", dominated, codes
    yield "impossible codes", holed, codes
    yield "nothing possible", torch.full_like(logits, -torch.inf), codes
    yield "wide", logits * 1e30, codes
    yield "tiny", logits * 1e-40, codes
    yield "overflowing", logits * 1e38, codes
    yield "positive", logits + 100.0, codes
    yield "one SID", alike, codes[:1].expand(3000, 4)
    yield "few SIDs", alike, codes % 2
    yield "one user flat", torch.stack([logits[0] * 4, torch.zeros_like(logits[1])]), codes


@pytest.mark.parametrize("k", [1, 10, 100, 5000])
@pytest.mark.parametrize(("log_probs", "codes"), [pytest.param(*rest, id=name) for name, *rest in adversaries()])
def test_adversaries_against_brute_force(log_probs, codes, k):
    top = integer_filter.exact_top_k(log_probs, flat_rows(codes, 21), k)
    scores = brute_scores(log_probs, codes)
    wanted = brute_top_k(scores, k)
    assert torch.equal(top.items, wanted)
    assert torch.equal(top.scores, scores.gather(1, wanted))


@pytest.mark.parametrize("slope", [0.25, -0.25, 1e-3])
def test_priors_that_rise_and_fall_with_brute_force(slope):
    log_probs, codes = problem(1, users=3, items=5000, slots=2, size=40, coarse=True)
    prior = torch.arange(5000) * slope
    top = integer_filter.exact_top_k(log_probs, flat_rows(codes, 41), 100, prior=prior)
    assert torch.equal(top.items, brute_top_k(brute_scores(log_probs, codes) + prior, 100))


def test_an_impossible_item_comes_last():
    log_probs, codes = problem(6, users=3, items=1000, slots=3, size=9, coarse=True)
    prior = torch.zeros(1000)
    prior[::7] = -torch.inf
    more = {"prior": prior}
    ours = integer_filter.exact_top_k(log_probs, flat_rows(codes, 10), 20, **more)
    assert_same(ours, exact_top_k(log_probs, flat_rows(codes, 10), 20, **more))
    assert not torch.isin(ours.items, torch.arange(0, 1000, 7)).any()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-6, 0.1, 3.0, 1e4, 1e20]),
    cut=st.floats(0.0, 1.0),
    weighed=st.booleans(),
    with_prior=st.booleans(),
)
def test_what_scores_the_cut_is_within_reach(seed, scale, cut, weighed, with_prior):
    """The law, by the tables themselves: no item that scores the cut or more has a sum of bytes beyond the reach."""
    generator = torch.Generator().manual_seed(seed)
    log_probs, codes = problem(seed, users=7, items=400, slots=5, size=9, coarse=False)
    log_probs = log_probs * scale
    weights = torch.rand(400, 5, generator=generator) if weighed else None
    prior = torch.randn(400, generator=generator) * scale if with_prior else None
    ready = integer_filter.filtered(flat_rows(codes, 10), weights=weights, prior=prior)
    kernels, width = integer_filter_kernels, len(ready.rows.columns) - 1
    flat = log_probs.flatten(1).numpy()
    scores, table = np.empty((7, 400), np.float32), np.empty((len(ready.rows.source), kernels.LANES), np.uint8)
    users = kernels.Users(flat, np.empty((7, width)), np.empty(7), np.empty(7, np.float32), np.empty(7))
    kernels.score_some(ready.rows, ready.items, users, np.arange(400), scores)
    users.cut[:] = np.quantile(scores, cut, axis=1, method="nearest")
    kernels.find_tops(ready.rows, users)
    kernels.fill(ready.rows, users, table)
    sums = np.minimum(table[ready.items.places].astype(int).sum(1).T[:7], 255)
    for user in range(7):
        assert (sums[user, scores[user] >= users.cut[user]] <= kernels.reach_of(users, user)).all()
        assert (scores[user] <= users.best[user]).all()


def test_a_guess_that_was_too_high_is_made_good(monkeypatch):
    """Were the best of the sample taken for the 50th of all, lists would be short: the plain scan writes those."""
    log_probs, codes = problem(8, users=70, items=3000, slots=4, size=20, coarse=False)
    wanted = exact_top_k(log_probs, flat_rows(codes, 21), 50)
    monkeypatch.setattr(integer_filter, "_rank", lambda k: 1)
    assert_same(integer_filter.exact_top_k(log_probs, flat_rows(codes, 21), 50), wanted)


@pytest.mark.slow
def test_more_rows_than_two_bytes_number():
    generator = torch.Generator().manual_seed(2)
    log_probs = torch.randn(2, 2, 70_000, generator=generator)
    rows = flat_rows(torch.stack([torch.randperm(70_000, generator=generator) for _ in range(2)], dim=1), 70_000)
    assert_same(integer_filter.exact_top_k(log_probs, rows, 5), exact_top_k(log_probs, rows, 5))


def test_most_items_are_never_scored():
    """The filter filters: of 20,000 items a user with opinions has fewer than a fifth scored."""
    log_probs, codes = problem(7, users=64, items=20_000, slots=6, size=50, coarse=False)
    ready, lists = integer_filter.filtered(flat_rows(codes, 51)), integer_filter._lists(integer_filter_kernels, 64, 10)
    table = np.empty((len(ready.rows.source), 64), np.uint8)
    integer_filter._scan(integer_filter_kernels, ready, (log_probs * 3).flatten(1).contiguous().numpy(), lists, table)
    assert (lists.held == 10).mean() > 0.9
    assert np.median(lists.tried) < 4000
