"""The four codebook rules: what they share, and what each does to latents and codewords."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from adasid_exp.functional.codebook import code_counts, token_entropy, utilisation
from adasid_exp.nn.quantizers.ema import EmaCodebook
from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.nn.quantizers.ibq import IbqCodebook
from adasid_exp.nn.quantizers.simvq import SimVqCodebook

SHARED = {"commitment": 0.25, "usage_decay": 0.5, "revive_below": 0.1, "kmeans_iterations": 20}
RULES = {
    "gradient": partial(GradientCodebook, **SHARED),
    "ema": partial(EmaCodebook, **SHARED, decay=0.9),
    "ibq": partial(IbqCodebook, **SHARED, temperature=0.5),
    "simvq": partial(SimVqCodebook, **SHARED),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
both_spaces = pytest.mark.parametrize("spherical", [True, False])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def latents_of(items=40, experts=3, dim=4, seed=0):
    return torch.randn(items, experts, dim, generator=generator(seed))


def clusters(items=600, experts=2, size=12, dim=8):
    centers = F.normalize(torch.randn(size, experts, dim, generator=generator(5)), dim=-1)
    codes = torch.arange(items) % size
    return centers[codes] + 0.02 * torch.randn(items, experts, dim, generator=generator(6)), codes


def build(rule, spherical=False, experts=3, size=5, dim=4):
    torch.manual_seed(0)
    return rule(experts=experts, size=size, dim=dim, spherical=spherical)


@every_rule
@both_spaces
def test_codes_are_the_nearest_of_the_experts_own_codewords(rule, spherical):
    # Reference: cosine or Euclidean distance, expert by expert.
    book, latents = build(rule, spherical).eval(), latents_of()
    quantized = book(latents)
    for e in range(3):
        words = book.table()[e].detach()
        if spherical:
            expected = F.cosine_similarity(latents[:, e, None], words[None], dim=-1).argmax(1)
        else:
            expected = torch.cdist(latents[:, e], words).argmin(1)
        assert torch.equal(quantized.codes[:, e], expected)
        torch.testing.assert_close(quantized.vectors[:, e], book.lookup(quantized.codes)[:, e])


@every_rule
@both_spaces
def test_the_decoder_receives_the_hard_codeword(rule, spherical):
    book, latents = build(rule, spherical).eval(), latents_of()
    quantized = book(latents)
    hard = book.lookup(book.assign(latents))
    torch.testing.assert_close(quantized.straight, hard, atol=1e-6, rtol=0)
    torch.testing.assert_close(quantized.vectors, hard, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["gradient", "ema", "simvq"])
def test_straight_through_hands_the_gradient_to_the_latent(name):
    # Spec 1.10.2: d straight / d latent is the identity, and nothing reaches the codewords.
    book, latents = build(RULES[name]), latents_of().requires_grad_()
    wanted = latents_of(seed=9)
    (book(latents).straight * wanted).sum().backward()
    torch.testing.assert_close(latents.grad, wanted)
    assert all(p.grad is None or not p.grad.any() for p in book.parameters())


def test_ibq_hands_the_gradient_to_every_codeword():
    # Law (spec 1.5): q = onehot C with onehot = hard + p - sg(p); ten lines of that, differentiated by torch.
    book, latents = build(RULES["ibq"], experts=1), latents_of(experts=1).requires_grad_()
    wanted = latents_of(experts=1, seed=9)
    (book(latents).straight * wanted).sum().backward()
    words = book.words.detach().clone().requires_grad_()
    z = latents.detach().clone().requires_grad_()
    p = torch.softmax(-0.5 * torch.cdist(z[:, 0], words[0]).square() / 0.5, dim=-1)
    onehot = F.one_hot(p.argmax(1), 5) + p - p.detach()
    # d(loss)/d(onehot) uses C; the gradient that goes through the softmax also reaches every codeword.
    ((onehot @ words[0]) * wanted[:, 0]).sum().backward()
    torch.testing.assert_close(book.words.grad, words.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(latents.grad, z.grad, atol=1e-5, rtol=1e-4)
    assert (book.words.grad.abs().sum(-1) > 0).all()


def test_gradient_loss_by_hand():
    # z = [3, 0], nearest word [1, 0]: squared error 4 over 2 dims = 2; loss 2 + .25 * 2 = 2.5;
    # d/dz = .25 * 2 * (2, 0) / 2 = (.5, 0), d/dq = 2 * (-2, 0) / 2 = (-2, 0).
    book = build(RULES["gradient"], experts=1, size=2, dim=2)
    book.place(torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]]), torch.ones(1, 2, dtype=torch.bool))
    latents = torch.tensor([[[3.0, 0.0]]], requires_grad=True)
    loss = book(latents).loss
    loss.backward()
    assert loss.item() == pytest.approx(2.5)
    assert latents.grad.tolist() == [[[0.5, 0.0]]]
    assert book.words.grad.tolist() == [[[-2.0, 0.0], [0.0, 0.0]]]


def test_ema_moves_words_by_hand():
    # Start: counts 1, sums = words = [0], [10]. Batch 1, 1, 4 -> code 0 (sum 6, count 3). decay .9:
    # counts .9 + .3 = 1.2, .9; sums 0 + .6, 9; words .5 and 10 (Laplace eps moves them by 1e-5).
    book = build(RULES["ema"], experts=1, size=2, dim=1)
    book.place(torch.tensor([[[0.0], [10.0]]]), torch.ones(1, 2, dtype=torch.bool))
    book(torch.tensor([[[1.0]], [[1.0]], [[4.0]]]))
    torch.testing.assert_close(book.codewords(), torch.tensor([[[0.5], [10.0]]]), atol=1e-3, rtol=0)


def test_ema_rests_in_eval_mode():
    book = build(RULES["ema"]).eval()
    before = book.codewords().clone()
    book(latents_of())
    assert torch.equal(before, book.codewords())


@every_rule
def test_inactive_latents_count_for_nothing(rule):
    # Law: replacing what lies in inactive rows changes no loss, no usage, no codeword and no other gradient.
    active = torch.rand(40, 3, generator=generator(3)) > 0.4
    outcomes = []
    for filler in (0.0, 50.0):
        book = build(rule)
        latents = latents_of().masked_fill(~active.unsqueeze(-1), filler).requires_grad_()
        quantized = book(latents, active)
        quantized.loss.backward()
        assert not latents.grad[~active].any()
        outcomes.append([quantized.loss, book.usage, book.table(), latents.grad[active]])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other)


@every_rule
def test_all_active_is_no_mask(rule):
    one, other = build(rule), build(rule)
    full = torch.ones(40, 3, dtype=torch.bool)
    torch.testing.assert_close(one(latents_of()).loss, other(latents_of(), full).loss)
    assert torch.equal(one.usage, other.usage)


@every_rule
def test_experts_do_not_see_each_other(rule):
    # Law: permuting the experts' latents with their codebooks permutes codes and leaves the loss.
    book, latents, order = build(rule).eval(), latents_of(), [2, 0, 1]
    plain = book(latents)
    for tensor in [*book.parameters(), *book.buffers()]:
        tensor.data = tensor.data[order]
    permuted = book(latents[:, order])
    assert torch.equal(permuted.codes, plain.codes[:, order])
    torch.testing.assert_close(permuted.loss, plain.loss)


@every_rule
@both_spaces
def test_kmeans_start_uses_every_code_of_a_mixture(rule, spherical):
    # Spec 1.10.8: utilisation 1 and entropy >= .9 ln K on at least K well-separated clusters.
    latents, cluster = clusters()
    book = build(rule, spherical, experts=2, size=12, dim=8)
    book.initialise(latents, None, generator())
    codes = book.assign(latents)
    counts = code_counts(codes, [12, 12])
    assert utilisation(counts, [12, 12]).min() == 1.0
    assert token_entropy(counts).min() >= 0.9 * math.log(12)
    for e in range(2):
        assert torch.stack([cluster, codes[:, e]], 1).unique(dim=0).shape[0] == 12


@every_rule
def test_start_looks_at_active_latents_only(rule):
    latents, _ = clusters()
    active = torch.arange(600).unsqueeze(1).expand(600, 2) % 2 == 0
    spoilt = latents.masked_fill(~active.unsqueeze(-1), 1e3)
    book = build(rule, experts=2, size=12, dim=8)
    book.initialise(spoilt, active, generator())
    assert book.codewords().abs().max() < 5


@every_rule
@both_spaces
def test_usage_tells_dead_codes_and_revival_moves_them_only(rule, spherical):
    book = build(rule, spherical, experts=2, size=6, dim=8)
    latents, _ = clusters(size=3)
    for _ in range(8):
        book.observe(book.project(latents), book.assign(latents), None)
    used = torch.stack([torch.bincount(c, minlength=6) > 0 for c in book.assign(latents).T])
    assert torch.equal(book.dead, ~used)
    before = book.codewords().detach().clone()
    book.revive(latents, None, generator())
    after = book.codewords().detach()
    torch.testing.assert_close(after[used], before[used], atol=1e-5, rtol=1e-4)
    # Revived words lie on latents up to 1 % noise of the spread.
    nearest = torch.cdist(after.transpose(0, 1).reshape(-1, 8), book.project(latents).reshape(-1, 8)).min(1)
    assert nearest.values.view(6, 2).T[~used].max() < 0.1
    assert not book.dead.any()


@every_rule
def test_revival_draws_from_active_latents(rule):
    book = build(rule, experts=1, size=4, dim=2)
    book.usage.zero_()
    latents = torch.tensor([[[1.0, 1.0]], [[900.0, 900.0]]])
    book.revive(latents.repeat(50, 1, 1), torch.tensor([[True], [False]]).repeat(50, 1), generator())
    assert (book.codewords().detach() - 1.0).abs().max() < 1e-6


@every_rule
def test_fill_empty_gives_every_code_an_item(rule):
    latents = latents_of(items=60, experts=2, dim=4)
    active = torch.rand(60, 2, generator=generator(1)) > 0.3
    book = build(rule, experts=2, size=20, dim=4)
    book.fill_empty(latents, active)
    counts = code_counts(book.assign(latents).masked_fill(~active, -1), [20, 20])
    assert utilisation(counts, [20, 20]).tolist() == [1.0, 1.0]


@every_rule
def test_training_settles_on_a_mixture(rule):
    # A law of learning: from random codewords, gradient (or averaging) and revival come to use every code.
    latents, _ = clusters()
    book = build(rule, True, experts=2, size=12, dim=8)
    optimizer = torch.optim.Adam(book.parameters(), lr=0.02) if list(book.parameters()) else None
    start = F.mse_loss(book.lookup(book.assign(latents)), book.project(latents))
    for step in range(60):
        loss = book(latents).loss
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 6 == 5 and step < 50:
            book.revive(latents, None, generator(step))
    counts = code_counts(book.assign(latents), [12, 12])
    assert utilisation(counts, [12, 12]).min() >= 11 / 12
    assert F.mse_loss(book.lookup(book.assign(latents)), book.project(latents)) < 0.5 * start


@every_rule
def test_state_goes_with_the_checkpoint(rule):
    book = build(rule)
    for seed in range(3):
        book(latents_of(seed=seed))
    fresh = rule(experts=3, size=5, dim=4, spherical=False)
    fresh.load_state_dict(book.state_dict())
    assert torch.equal(fresh.assign(latents_of()), book.assign(latents_of()))
    assert torch.equal(fresh.usage, book.usage)


def test_simvq_place_puts_the_word_where_the_learned_map_sends_it():
    book = build(RULES["simvq"])
    with torch.no_grad():
        book.map.add_(0.3 * torch.randn(book.map.shape, generator=generator()))
    wanted, where = torch.randn(3, 5, 4, generator=generator(1)), torch.arange(15).view(3, 5) % 2 == 0
    before = book.table().detach().clone()
    book.place(wanted, where)
    torch.testing.assert_close(book.table()[where], wanted[where], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(book.table()[~where], before[~where])
