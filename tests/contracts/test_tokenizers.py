"""What every tokenizer under conf/tokenizer must do, whatever its method.

Each yaml is composed as a run would compose it, in small, and built for a catalogue whose modalities share
latent classes and whose behavior grows with its count.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import OmegaConf

from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.data.sequences import Histories
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.stages.building import build as build_node
from adasid_exp.tokenizers.base import TrainableTokenizer
from adasid_exp.training.optimizers import adamw
from adasid_exp.types import PAD, ItemBatch

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "tokenizer").glob("*.yaml"))
DIMS = {"text": 20, "vision": 12, "behavior": 16}
SMALL = ["scale.codebook_size=8", "scale.length=3", "scale.width={hidden: 32, latent: 16, code: 8}"]


def catalogue(items=320, classes=10):
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(items) % classes
    count = torch.randperm(items, generator=generator) + 1
    count[:5] = 0
    features = {}
    for name, dim in DIMS.items():
        centers = torch.randn(classes, dim, generator=generator)
        features[name] = centers[label] + 0.5 * torch.randn(items, dim, generator=generator)
    features["behavior"] = features["behavior"] * (0.2 + count / items).unsqueeze(1)
    return ItemBatch(index=torch.arange(items), features=features, count=count)


def rows_of(items, rows):
    features = {name: values[rows] for name, values in items.features.items()}
    return ItemBatch(index=items.index[rows], features=features, count=items.count[rows])


def histories(users=60, items=320):
    """Users who stay within few of the latent classes; some items nobody has met."""
    generator = torch.Generator().manual_seed(2)
    length = torch.randint(2, 12, (users,), generator=generator)
    liked = torch.arange(users) % 10
    jumps = torch.randint(0, (items - 20) // 10, (int(length.sum()),), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), length.cumsum(0)])
    return Histories(items=liked.repeat_interleave(length) + 10 * jumps, offsets=offsets)


def compose_node(name):
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=[f"+tokenizer={name}", "+scale=toy", "+modalities=toy", *SMALL, "+seed=0"])
    OmegaConf.resolve(config)
    return config.tokenizer


def build(name):
    torch.manual_seed(0)
    counts = lambda: catalogue().count  # noqa: E731
    return build_node(compose_node(name), always={"dims": DIMS}, histories=histories, counts=counts)


TRAINABLE = [name for name in NAMES if issubclass(get_class(compose_node(name)._target_), TrainableTokenizer)]


def train(model, items, steps):
    """Plain training by the hooks in their order; the loss terms of every step."""
    optimizer, terms = adamw(model, learning_rate=1e-2, weight_decay=0.0), []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        losses = model.losses(items)
        sum(losses.values()).backward()
        optimizer.step()
        model.after_step(step, steps)
        terms.append({key: value.item() for key, value in losses.items()})
    return terms


def started(name):
    items, model = catalogue(), build(name)
    model.fit_statistics(items)
    if name in TRAINABLE:
        model.start(items)
    return model, items


every_tokenizer = pytest.mark.parametrize("name", NAMES)
every_trainable_tokenizer = pytest.mark.parametrize("name", TRAINABLE)


@pytest.fixture(scope="module", params=NAMES)
def trained(request):
    """A tokenizer, briefly trained if it learns by gradient, in eval mode, and its catalogue."""
    model, items = started(request.param)
    if request.param in TRAINABLE:
        train(model, items, 15)
        model.end_epoch(items, 15, 30)
        model.finalize(items)
    return model.eval(), items


def test_there_are_tokenizers():
    assert {"rq_vae", "ada_sid"} <= set(NAMES)


def test_codes_fit_the_layout(trained):
    model, items = trained
    encoded, layout = model.encode(items), model.layout
    assert len(layout.sizes) == len(layout.modalities) == encoded.codes.shape[1]
    assert encoded.codes.dtype == torch.int64
    assert encoded.weights.dtype == torch.float32
    assert encoded.codes.shape == encoded.weights.shape == (320, len(layout.sizes))
    assert bool((encoded.codes >= PAD).all())
    assert bool((encoded.codes < torch.tensor(layout.sizes)).all())
    # A slot has weight if and only if it speaks.
    assert torch.equal(encoded.weights > 0, encoded.codes != PAD)


def test_encoding_is_deterministic_and_row_by_row(trained):
    model, items = trained
    whole = model.encode(items)
    assert torch.equal(model.encode(items).codes, whole.codes)
    order = torch.randperm(320, generator=torch.Generator().manual_seed(1))
    for part in order.split(37):
        encoded = model.encode(rows_of(items, part))
        assert torch.equal(encoded.codes, whole.codes[part])
        torch.testing.assert_close(encoded.weights, whole.weights[part])
        for name, values in model.reconstruct(rows_of(items, part)).items():
            torch.testing.assert_close(values, model.reconstruct(items)[name][part], atol=1e-5, rtol=1e-4)


def test_the_codes_make_a_valid_artifact(trained, tmp_path):
    model, items = trained
    encoded, layout = model.encode(items), model.layout
    sids = SemanticIds(
        item_ids=np.array([f"i{k}" for k in range(320)]),
        codes=encoded.codes.to(torch.int16).numpy(),
        weights=encoded.weights.numpy(),
        modalities=layout.modalities,
        sizes=layout.sizes,
        ordered=layout.ordered,
    )
    sids.save(tmp_path)
    read = SemanticIds.load(tmp_path).table()
    assert torch.equal(read.codes, encoded.codes)
    assert (read.sizes, read.modalities, read.ordered) == (layout.sizes, layout.modalities, layout.ordered)


def test_every_slot_contributes(trained):
    # Law: without the slot more items share a SID, so none is idle.
    model, items = trained
    codes = model.encode(items).codes
    for slot in range(codes.shape[1]):
        others = torch.cat([codes[:, :slot], codes[:, slot + 1 :]], dim=1)
        assert others.unique(dim=0).shape[0] < codes.unique(dim=0).shape[0], slot


def test_a_code_is_the_nearest_codeword(trained):
    # Law: in every slot in use the code has the least distance.
    model, items = trained
    codes, distances = model.encode(items).codes, model.distances(items)
    assert distances.shape == (320, codes.shape[1], max(model.layout.sizes))
    used = codes != PAD
    assert torch.equal(distances.argmin(dim=2)[used], codes[used])


def test_encoding_leaves_no_trace(trained):
    model, items = trained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    encoded = model.encode(items)
    model.reconstruct(items)
    assert not encoded.weights.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_decoding_is_what_training_decoded(trained):
    # Law: straight-through changes gradients, not values, so the hard-code error is the loss's own.
    model, items = trained
    targets, decoded = model.targets(items), model.reconstruct(items)
    assert decoded.keys() <= targets.keys()
    errors = [(decoded[name] - targets[name]).square().mean() for name in decoded]
    assert all(bool(torch.isfinite(error)) for error in errors)
    if isinstance(model, TrainableTokenizer) and decoded.keys() <= set(model.modalities):
        loss = model.losses(items)["reconstruction"]
        torch.testing.assert_close(torch.stack(errors).mean(), loss, atol=1e-5, rtol=1e-4)


@every_tokenizer
def test_a_checkpoint_gives_the_same_codes(name, tmp_path):
    model, items = started(name)
    if name in TRAINABLE:
        train(model, items, 5)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    expected = model.eval().encode(items)
    fresh = build(name)
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    encoded = fresh.eval().encode(items)
    assert torch.equal(encoded.codes, expected.codes)
    assert torch.equal(encoded.weights, expected.weights)


@every_trainable_tokenizer
def test_training_goes_on_where_a_checkpoint_left_it(name):
    # Codebooks are not started anew. The rules that fit statistics again before a resume do so here too.
    model, items = started(name)
    train(model, items, 5)
    fresh = build(name)
    fresh.fit_statistics(items)
    fresh.load_state_dict(model.state_dict())
    assert fresh.started
    again = fresh.train().losses(items)
    for term, value in model.train().losses(items).items():
        torch.testing.assert_close(again[term], value, rtol=0, atol=0)


@every_trainable_tokenizer
def test_every_parameter_learns(name):
    model, items = started(name)
    model.train()
    sum(model.losses(items).values()).backward()
    still = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


@every_trainable_tokenizer
def test_every_slot_learns_and_tells_items_apart(name):
    model, items = started(name)
    model.train()
    sum(model.losses(items).values()).backward()
    for book in (part for part in model.modules() if isinstance(part, Codebook)):
        for parameter in book.parameters():
            assert bool(parameter.grad.flatten(1).any(dim=1).all())
    for column in model.eval().encode(items).codes.T:
        assert column[column != PAD].unique().numel() >= 4


@every_trainable_tokenizer
def test_warm_up_has_no_codes_and_says_so(name):
    items, model = catalogue(), build(name)
    model.fit_statistics(items)
    assert not model.started
    sum(model.losses(items).values()).backward()
    books = [part for part in model.modules() if isinstance(part, Codebook)]
    assert all(p.grad is None or not p.grad.any() for book in books for p in book.parameters())


@every_trainable_tokenizer
def test_twenty_steps_lower_the_loss(name):
    model, items = started(name)
    terms = train(model.train(), items, 20)
    assert all(math.isfinite(value) for step in terms for value in step.values())
    # The codebooks' own loss may grow with the latents; what the codes are for must fall.
    assert terms[-1]["reconstruction"] < 0.95 * terms[0]["reconstruction"]


@every_tokenizer
def test_raw_scale_of_content_does_not_matter(name):
    # Law: inputs are standardised, so scaling and shifting the text changes no code.
    items = catalogue()
    other = catalogue()
    other.features["text"].mul_(50.0).add_(7.0)
    codes = []
    for data in (items, other):
        model = build(name)
        model.fit_statistics(data)
        codes.append(model.eval().encode(data).codes)
    assert (codes[0] == codes[1]).float().mean() > 0.999


def test_a_catalogue_keeps_its_diagnostics_by_item(trained):
    model, items = trained
    columns = model.diagnostics(items)
    part = model.diagnostics(rows_of(items, torch.tensor([3, 7])))
    for name, values in columns.items():
        assert values.shape == (320,), name
        torch.testing.assert_close(part[name], values[[3, 7]])
