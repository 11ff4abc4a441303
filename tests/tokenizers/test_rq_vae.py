"""What is particular to RQ-VAE; what holds for every tokenizer is in tests/contracts."""

import math
from functools import partial

import pytest
import torch

from adasid_exp.functional.codebook import code_counts, token_entropy, utilisation
from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.tokenizers.base import sample_items
from adasid_exp.tokenizers.rq_vae import RqVae
from adasid_exp.training.optimizers import adamw
from adasid_exp.types import ItemBatch, UserError

BOOK = partial(
    GradientCodebook,
    spherical=False,
    commitment=0.25,
    usage_decay=0.8,
    revive_below=0.1,
    kmeans_iterations=20,
)


def mixture(items=960, clusters=24, dim=16):
    generator = torch.Generator().manual_seed(0)
    centers = 3 * torch.randn(clusters, dim, generator=generator)
    text = centers[torch.arange(items) % clusters] + 0.3 * torch.randn(items, dim, generator=generator)
    vision = torch.randn(items, 6, generator=generator)
    return ItemBatch(
        index=torch.arange(items),
        features={"text": text, "vision": vision},
        count=torch.ones(items, dtype=torch.long),
    )


def build(modalities=("text",), size=16, fill_empty=False):
    torch.manual_seed(0)
    model = RqVae(
        dims={"text": 16, "vision": 6},
        modalities=modalities,
        hidden=[32],
        latent=8,
        length=3,
        size=size,
        codebook=BOOK,
        fill_empty=fill_empty,
    )
    model.fit_statistics(mixture())
    return model


def train(model, items, steps):
    optimizer = adamw(model, learning_rate=1e-2, weight_decay=0.0)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        sum(model.losses(items).values()).backward()
        optimizer.step()
        if step % 10 == 0:
            model.end_epoch(items, step, steps)
    return model.eval()


def test_a_mixture_fills_the_codebooks():
    # Spec 1.10.8 on 24 clusters for 16 codes: every code is used, entropy >= .9 ln K at the first level.
    items, model = mixture(), build()
    train(model, items, 10)
    model.train().start(items)
    codes = train(model, items, 50).encode(items).codes
    counts = code_counts(codes, model.layout.sizes)
    assert utilisation(counts, model.layout.sizes).tolist() == [1.0, 1.0, 1.0]
    assert token_entropy(counts)[0] >= 0.9 * math.log(16)
    assert token_entropy(counts).mean() >= 0.9 * math.log(16)


def test_levels_refine():
    # Law: each further level brings the decoded sum closer to the latent.
    items, model = mixture(), build()
    model.start(items)
    part = model.autoencoders[0]
    latents = part.encoder(model.targets(items)["text"]).detach()
    codes, errors = part.quantizer.encode(latents), []
    for levels in range(1, 4):
        books = part.quantizer.books()[:levels]
        total = sum(book.lookup(codes[:, [k]]).squeeze(1) for k, book in enumerate(books))
        errors.append((latents - total).square().mean().item())
    assert errors[0] > errors[1] > errors[2]


def test_warm_up_bypasses_quantization():
    # Law: before the start the loss is the plain autoencoder's and no codebook has a gradient.
    items, model = mixture(), build()
    part = model.autoencoders[0]
    losses = model.losses(items)
    targets = model.targets(items)["text"]
    plain = (part.decoder(part.encoder(targets)) - targets).square().mean()
    assert losses.keys() == {"reconstruction"}
    torch.testing.assert_close(losses["reconstruction"], plain)
    losses["reconstruction"].backward()
    assert all(parameter.grad is None for parameter in part.quantizer.parameters())


def test_several_modalities_weigh_the_same():
    # By hand: the mean of the two blocks' mean squared errors, however wide each is.
    items, model = mixture(), build(modalities=["vision", "text"])
    targets, part = model.targets(items), model.autoencoders[0]
    decoded = part.decoder(part.encoder(torch.cat([targets["vision"], targets["text"]], 1)))
    blocks = [decoded[:, :6] - targets["vision"], decoded[:, 6:] - targets["text"]]
    expected = sum(block.square().mean() for block in blocks) / 2
    torch.testing.assert_close(model.losses(items)["reconstruction"], expected)
    assert model.layout.modalities == ("vision+text",) * 3


def test_finalize_fills_what_is_empty():
    items, model = mixture(), build(size=64, fill_empty=True)
    model.finalize(items)
    counts = code_counts(model.eval().encode(items).codes, model.layout.sizes)
    assert utilisation(counts, model.layout.sizes).tolist() == [1.0, 1.0, 1.0]


def test_an_unknown_modality_is_named():
    with pytest.raises(UserError, match=r"tokenizer.modalities: sound is not among .*\(text, vision\)"):
        build(modalities=["text", "sound"])


def test_samples_are_distinct_items_with_their_own_rows():
    items = mixture()
    sample = sample_items(items, 100, torch.Generator().manual_seed(0))
    assert sample.index.unique().numel() == 100
    assert torch.equal(sample.features["text"], items.features["text"][sample.index])
    assert sample_items(items, 960, torch.Generator()) is items
