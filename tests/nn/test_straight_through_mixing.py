"""Both straight-through forms: same value, same gradient to latents, different gradient to weights."""

import pytest
import torch

from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.nn.straight_through import Fused, PerExpert, weighted_sum


@pytest.fixture(scope="module")
def passed():
    """One pass through a form: mixed, gradient at it, latents, weights, codebook, quantized."""

    def run(form):
        torch.manual_seed(0)
        book = GradientCodebook(
            experts=3,
            size=4,
            dim=5,
            spherical=False,
            commitment=0.25,
            usage_decay=0.9,
            revive_below=0.1,
            kmeans_iterations=2,
        ).double()
        latents = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
        weights = torch.rand(6, 3, dtype=torch.float64, requires_grad=True)
        quantized = book.eval()(latents)
        mixed = form(quantized, weights)
        upstream = torch.randn_like(mixed)
        mixed.backward(upstream)
        return mixed, upstream, latents, weights, book, quantized

    return run


@pytest.mark.parametrize("form", [PerExpert(), Fused()])
def test_the_decoder_receives_the_weighted_codewords(passed, form):
    mixed, _, _, weights, _, quantized = passed(form)
    torch.testing.assert_close(mixed, weighted_sum(quantized.vectors, weights), atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", [PerExpert(), Fused()])
def test_a_latent_s_gradient_is_its_weight_times_the_decoder_s(passed, form):
    _, upstream, latents, weights, _, _ = passed(form)
    torch.testing.assert_close(latents.grad, weights.detach()[:, :, None] * upstream[:, None, :])


@pytest.mark.parametrize("form", [PerExpert(), Fused()])
def test_reconstruction_alone_never_moves_codewords(passed, form):
    assert passed(form)[4].words.grad is None


def test_a_weight_s_gradient_meets_the_codeword(passed):
    _, upstream, _, weights, _, quantized = passed(PerExpert())
    torch.testing.assert_close(weights.grad, (upstream[:, None] * quantized.vectors.detach()).sum(2))


def test_a_weight_s_gradient_meets_the_latent_when_fused(passed):
    _, upstream, latents, weights, _, quantized = passed(Fused())
    torch.testing.assert_close(weights.grad, (upstream[:, None] * latents.detach()).sum(2))
    assert not torch.allclose(weights.grad, (upstream[:, None] * quantized.vectors.detach()).sum(2))
