"""Residual quantization: its sum, its gradients and its start."""

from functools import partial

import pytest
import torch

from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.nn.quantizers.ibq import IbqCodebook
from adasid_exp.nn.quantizers.residual import ResidualQuantizer
from adasid_exp.types import UserError

ARGUMENTS = {
    "spherical": False,
    "commitment": 0.25,
    "usage_decay": 0.5,
    "revive_below": 0.1,
    "kmeans_iterations": 20,
}
BOOK = partial(GradientCodebook, **ARGUMENTS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def latents_of(items=400, dim=6):
    centers = torch.randn(9, dim, generator=generator(1))
    return centers[torch.arange(items) % 9] + 0.3 * torch.randn(items, dim, generator=generator(2))


def build(levels=4, book=BOOK):
    torch.manual_seed(0)
    return ResidualQuantizer(codebook=book, levels=levels, size=8, dim=6)


def test_codes_by_the_recursion_written_out():
    # Reference: r_l = r_{l-1} - nearest codeword, in numpy-like lines.
    quantizer, latents = build(), latents_of()
    residual, expected = latents, []
    for book in quantizer.books():
        words = book.words[0].detach()
        codes = torch.cdist(residual, words).argmin(1)
        residual = residual - words[codes]
        expected.append(codes)
    assert torch.equal(quantizer.encode(latents), torch.stack(expected, 1))
    assert torch.equal(quantizer(latents).codes, torch.stack(expected, 1))
    # Law (spec 3): the quantized sum and what is left add up to the latent.
    torch.testing.assert_close(quantizer.decode(torch.stack(expected, 1)) + residual, latents)


def test_the_decoder_receives_the_sum_with_the_latents_gradient():
    quantizer, latents = build(), latents_of().requires_grad_()
    straight = quantizer(latents).straight
    torch.testing.assert_close(straight, quantizer.decode(quantizer.encode(latents)), atol=1e-5, rtol=0)
    wanted = torch.randn(straight.shape, generator=generator(3))
    (straight * wanted).sum().backward()
    torch.testing.assert_close(latents.grad, wanted)


def test_every_levels_commitment_reaches_the_latents_and_every_level_its_codewords():
    # By hand: d/dz of mean over levels of .25 * mean (r_{l-1} - q_l)^2 is the mean of .5 * r_l / elements.
    quantizer, latents = build(), latents_of().requires_grad_()
    quantizer(latents).loss.backward()
    residual, expected = latents.detach(), torch.zeros_like(latents)
    for book in quantizer.books():
        residual = residual - book.lookup(book.assign(residual.unsqueeze(1))).squeeze(1).detach()
        expected += 0.25 * 2 * residual / residual.numel() / 4
        assert book.words.grad.any()
    torch.testing.assert_close(latents.grad, expected)


def test_ibq_levels_hand_on_their_own_gradient():
    # IBQ decodes the codewords themselves: every level's table learns from the decoder.
    quantizer = build(book=partial(IbqCodebook, **ARGUMENTS, temperature=0.5))
    quantizer(latents_of()).straight.square().sum().backward()
    assert all(book.words.grad.any() for book in quantizer.books())


def test_start_shrinks_the_residual_level_by_level():
    # Spec 3: after a k-means start the residual's norm falls at every level.
    quantizer, latents = build(), latents_of()
    quantizer.initialise(latents, generator())
    codes, residual, norms = quantizer.encode(latents), latents, [latents.norm(dim=1).mean().item()]
    for book, column in zip(quantizer.books(), codes.split(1, dim=1), strict=True):
        residual = residual - book.lookup(column).squeeze(1).detach()
        norms.append(residual.norm(dim=1).mean().item())
    assert all(later < earlier for earlier, later in zip(norms, norms[1:], strict=False))
    assert norms[-1] < 0.3 * norms[0]


def test_one_level_is_plain_quantization():
    quantizer, latents = build(levels=1), latents_of()
    plain = quantizer.books()[0](latents.unsqueeze(1))
    residual = quantizer(latents)
    assert torch.equal(residual.codes, plain.codes)
    torch.testing.assert_close(residual.loss, plain.loss)


def test_fill_empty_and_revival_reach_every_level():
    quantizer, latents = build(), latents_of()
    quantizer.fill_empty(latents)
    assert all(column.unique().numel() == 8 for column in quantizer.encode(latents).T)
    before = [book.words.detach().clone() for book in quantizer.books()]
    for book in quantizer.books():
        book.usage[0, 3] = 0.0
    assert quantizer.dead.nonzero().tolist() == [[level, 3] for level in range(4)]
    quantizer.revive(latents, generator())
    for book, old in zip(quantizer.books(), before, strict=True):
        moved = (book.words.detach() != old).any(-1)[0]
        assert moved.nonzero().flatten().tolist() == [3]


def test_unit_vectors_do_not_add_up():
    with pytest.raises(UserError, match="spherical=false"):
        build(book=partial(GradientCodebook, **{**ARGUMENTS, "spherical": True}))
