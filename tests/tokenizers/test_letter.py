"""What is particular to LETTER; what holds for every tokenizer is in tests/contracts."""

import math
from functools import partial

import pytest
import torch

from adasid_exp.nn.losses.collaborative import Collaborative, collaborative_loss
from adasid_exp.nn.losses.diversity import Diversity
from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.tokenizers.letter import Letter
from adasid_exp.tokenizers.rq_vae import RqVae
from adasid_exp.training.optimizers import adamw
from adasid_exp.types import ItemBatch, UserError

BOOK = partial(
    GradientCodebook, spherical=False, commitment=0.25, usage_decay=0.8, revive_below=0.1, kmeans_iterations=10
)
SHAPE = {"hidden": [32], "latent": 8, "length": 3, "size": 16, "codebook": BOOK, "fill_empty": False}


def catalogue(items=320):
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(20, 12, generator=generator)[torch.arange(items) % 20]
    return ItemBatch(
        index=torch.arange(items),
        features={
            "text": text + 0.3 * torch.randn(items, 12, generator=generator),
            "behavior": torch.randn(items, 8, generator=generator),
        },
        count=torch.arange(items),
    )


def build(alpha=0.02, beta=1e-4, modalities=("text", "behavior"), dims=None, largest=60):
    torch.manual_seed(0)
    return Letter(
        dims=dims or {"text": 12, "behavior": 8},
        modalities=modalities,
        collaborative=partial(Collaborative, weight=alpha),
        diversity=partial(Diversity, clusters=4, smallest=10, largest=largest, iterations=5, weight=beta),
        **SHAPE,
    )


def train(model, items, steps, first=1):
    optimizer = adamw(model, learning_rate=1e-2, weight_decay=0.0)
    for step in range(first, first + steps):
        if step == 4:
            model.start(items)
        optimizer.zero_grad()
        sum(model.losses(items).values()).backward()
        optimizer.step()
        model.after_step(step, 100)
        if step % 3 == 0:
            model.end_epoch(items, step, 100)
    return model


@pytest.mark.parametrize("behavior", [8, 5])
def test_without_its_terms_it_is_rq_vae_bit_for_bit(behavior):
    items = catalogue()
    items.features["behavior"] = items.features["behavior"][:, :behavior]
    ours = build(alpha=0.0, beta=0.0, dims={"text": 12, "behavior": behavior})
    torch.manual_seed(0)
    plain = RqVae(dims={"text": 12}, modalities=["text"], **SHAPE)
    for model in (ours, plain):
        model.fit_statistics(items)
        train(model, items, 14).finalize(items)
    assert torch.equal(ours.eval().encode(items).codes, plain.eval().encode(items).codes)
    expected = dict(plain.named_parameters())
    assert expected.keys() == dict(ours.named_parameters()).keys()
    assert all(torch.equal(value, expected[name]) for name, value in ours.named_parameters())


def test_a_resumed_run_draws_what_the_first_would_have_drawn():
    items, straight, resumed = catalogue(), build(beta=1.0), build(beta=1.0)
    straight.fit_statistics(items)
    train(straight, items, 8)
    resumed.load_state_dict(straight.state_dict())
    terms = straight.losses(items)["diversity"]
    assert torch.equal(terms, resumed.losses(items)["diversity"])
    # Law: another step is another draw.
    straight.after_step(9, 100)
    assert not torch.equal(terms, straight.losses(items)["diversity"])


def test_clusters_keep_their_sizes_and_follow_the_codewords():
    items, model = catalogue(), build()
    model.fit_statistics(items)
    model.start(items)
    first = model.diversity.clusters.clone()
    sizes = torch.nn.functional.one_hot(first, 4).sum(1)
    # 16 codewords in 4 clusters: at least min(10, 16 / 8) = 2 each.
    assert int(sizes.min()) >= 2
    book = model.autoencoders[0].quantizer.books()[0]
    with torch.no_grad():
        book.words.copy_(book.words[:, torch.randperm(16, generator=torch.Generator().manual_seed(0))])
    model.end_epoch(items, 3, 100)
    assert not torch.equal(model.diversity.clusters[0], first[0])
    assert torch.equal(model.diversity.clusters[1:], first[1:])


def test_codebooks_learn_by_diversity_and_the_codebook_term_alone():
    items, model = catalogue(), build(beta=1.0)
    model.fit_statistics(items)
    model.start(items)
    books = [book.words for book in model.autoencoders[0].quantizer.books()]
    encoder = list(model.autoencoders[0].encoder.parameters())
    reached = {}
    for name, term in model.losses(items).items():
        grads = torch.autograd.grad(term, [*books, *encoder], allow_unused=True, retain_graph=True)
        touched = [grad is not None and bool(grad.any()) for grad in grads]
        reached[name] = (any(touched[:3]), any(touched[3:]))
    assert reached == {
        "reconstruction": (False, True),
        "collaborative": (False, True),
        "quantization": (True, True),
        "diversity": (True, False),
    }


def test_equal_logits_cost_the_logarithm_of_the_batch():
    seen = torch.ones(32, dtype=torch.bool)
    loss = collaborative_loss(torch.ones(32, 4), torch.ones(32, 4), seen, seen, 0)
    assert loss.item() == pytest.approx(math.log(32), rel=1e-6)


def test_items_without_interactions_stay_out():
    # Reference: the same loss over the items that have some.
    generator = torch.Generator().manual_seed(0)
    latents, behavior = torch.randn(10, 4, generator=generator), torch.randn(10, 4, generator=generator)
    seen = torch.arange(10) >= 3
    loss = collaborative_loss(latents, behavior, seen, seen, 0)
    logits = latents[3:] @ behavior[3:].T
    torch.testing.assert_close(loss, (logits.logsumexp(1) - logits.diagonal()).mean())
    none = torch.zeros(10, dtype=torch.bool)
    assert collaborative_loss(latents, behavior, none, none, 0).item() == 0.0


def test_behavior_of_another_width_is_projected():
    model = build(dims={"text": 12, "behavior": 5})
    assert model.collaborative.projection.weight.shape == (8, 5)
    assert not list(build().collaborative.parameters())


def test_sids_speak_of_the_content():
    assert build().layout.modalities == ("text",) * 3


@pytest.mark.parametrize("modalities", [["text"], ["behavior"]])
def test_both_content_and_behavior_are_needed(modalities):
    with pytest.raises(UserError, match="LETTER reads content and behavior"):
        build(modalities=modalities)


def test_clusters_too_small_for_the_codewords_are_refused():
    with pytest.raises(UserError, match=r"tokenizer.diversity.largest=3: 4 clusters cannot hold 16 .* 4 or more"):
        build(largest=3)
