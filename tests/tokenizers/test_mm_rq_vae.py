"""What is particular to MM-RQ-VAE and RQ-VAE++; what holds for every tokenizer is in tests/contracts."""

from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from adasid_exp.functional.mmd import mmd
from adasid_exp.nn.losses.alignment import offered, two_way
from adasid_exp.nn.losses.matching import ContrastiveMatching, MatchedReconstruction, MmdMatching, NoMatching
from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.tokenizers.mm_rq_vae import MmRqVae, share_length
from adasid_exp.tokenizers.rq_vae import RqVae
from adasid_exp.types import ItemBatch, UserError

BOOK = partial(
    GradientCodebook, spherical=False, commitment=0.25, usage_decay=0.8, revive_below=0.1, kmeans_iterations=10
)
DIMS = {"text": 12, "vision": 7, "behavior": 9}
SHAPE = {"hidden": [16], "latent": 8, "size": 8, "codebook": BOOK, "fill_empty": False}
SQUARED = MatchedReconstruction(squared_error=1.0, mmd=0.0, items=512)


def catalogue(items=200):
    generator = torch.Generator().manual_seed(0)
    features = {
        name: torch.randn(20, dim, generator=generator)[torch.arange(items) % 20]
        + 0.3 * torch.randn(items, dim, generator=generator)
        for name, dim in DIMS.items()
    }
    return ItemBatch(index=torch.arange(items), features=features, count=torch.arange(items) + 1)


def build(reconstruction=SQUARED, alignment=None, modalities=None, length=6):
    torch.manual_seed(0)
    model = MmRqVae(
        dims=DIMS,
        modalities=modalities,
        length=length,
        reconstruction=reconstruction,
        alignment=alignment or NoMatching(),
        **SHAPE,
    )
    model.fit_statistics(catalogue())
    return model


def node(*overrides):
    conf = str(Path(__file__).parents[2] / "conf")
    with initialize_config_dir(conf, version_base="1.3"):
        config = compose(overrides=["+scale=beauty", "+seed=0", *overrides])
    return OmegaConf.to_container(config, resolve=True)["tokenizer"]


def test_without_alignment_and_by_squared_error_it_is_rq_vae_pp():
    overrides = ["+tokenizer=mm_rq_vae", "matched_reconstruction@tokenizer.reconstruction=mse"]
    ours = node(*overrides, "matching@tokenizer.alignment=none")
    theirs = node("+tokenizer=rq_vae_pp")
    assert (ours.pop("name"), theirs.pop("name")) == ("mm_rq_vae", "rq_vae_pp")
    assert ours == theirs


def test_every_branch_is_an_rq_vae_of_its_own():
    # Law: trained by squared error alone, a branch's gradient is a third of its RQ-VAE's at every step, so that plain
    # gradient descent with a third of the rate takes the RQ-VAE where the branch goes.
    items, model = catalogue(), build()
    model.start(items)
    plain = {}
    for place, name in enumerate(["behavior", "text", "vision"]):
        plain[name] = RqVae(dims=DIMS, modalities=[name], length=2, **SHAPE)
        plain[name].fit_statistics(items)
        plain[name].start(items)
        plain[name].autoencoders[0].load_state_dict(model.autoencoders[place].state_dict())
    for network, rate in ((model, 0.3), *((alone, 0.1) for alone in plain.values())):
        optimizer = torch.optim.SGD(network.parameters(), lr=rate)
        for _ in range(10):
            optimizer.zero_grad()
            sum(network.losses(items).values()).backward()
            optimizer.step()
    codes = model.eval().encode(items).codes.split(2, dim=1)
    for (name, alone), own, part in zip(plain.items(), codes, model.autoencoders, strict=True):
        assert torch.equal(alone.eval().encode(items).codes, own), name
        for key, value in alone.autoencoders[0].named_parameters():
            torch.testing.assert_close(part.get_parameter(key), value, rtol=1e-3, atol=1e-5)


def test_terms_by_hand():
    # By hand from the parts' own outputs: means over three modalities, pairs with behavior summed over three.
    items = catalogue()
    model = build(
        reconstruction=MatchedReconstruction(squared_error=1.0, mmd=2.0, items=100),
        alignment=ContrastiveMatching(temperature=0.07, weight=0.5),
    )
    model.start(items)
    targets, terms = model.targets(items), model.losses(items)
    order = ["behavior", "text", "vision"]
    coded = dict(zip(order, model.coded(targets), strict=True))
    errors = [(coded[name].decoded - targets[name]).square().mean() for name in order]
    torch.testing.assert_close(terms["reconstruction"], sum(errors) / 3)
    distances = [mmd(coded[name].decoded[:100], targets[name][:100]) for name in order]
    torch.testing.assert_close(terms["mmd"], 2 * sum(distances) / 3)
    pairs = [two_way(*offered(coded["behavior"].straight, coded[name].straight), 0.07).mean() for name in order[1:]]
    torch.testing.assert_close(terms["align_behavior"], 0.5 * sum(pairs) / 3)
    assert terms.keys() == {"reconstruction", "mmd", "align_behavior", "quantization"}


def test_the_official_reading_has_mmd_alone():
    items = catalogue()
    model = build(
        reconstruction=MatchedReconstruction(squared_error=0.0, mmd=3.0, items=1024),
        alignment=MmdMatching(weight=0.01),
    )
    model.start(items)
    terms = model.losses(items)
    assert terms.keys() == {"mmd", "align_behavior", "quantization"}
    behavior, text, vision = (part.straight for part in model.coded(model.targets(items)))
    torch.testing.assert_close(terms["align_behavior"], 0.01 * (mmd(behavior, text) + mmd(behavior, vision)) / 3)


def test_alignment_brings_behavior_and_content_of_an_item_together():
    items = catalogue()
    model = build(alignment=ContrastiveMatching(temperature=0.07, weight=1.0))
    model.start(items)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    values = []
    for _ in range(25):
        terms = model.losses(items)
        values.append(terms["align_behavior"].item())
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize(
    ("length", "names", "expected"),
    [
        (6, "btv", [2, 2, 2]),
        (8, "btv", [3, 3, 2]),
        (7, "btvx", [2, 2, 2, 1]),
        (5, "b", [5]),
        ({"t": 1, "b": 4}, "bt", [4, 1]),
    ],
)
def test_the_length_is_shared_out(length, names, expected):
    assert share_length(length, list(names)) == expected


@pytest.mark.parametrize("length", [2, {"behavior": 2, "text": 2}, {"behavior": 3, "text": 3, "sound": 2}])
def test_a_modality_without_a_code_is_refused(length):
    with pytest.raises(UserError, match=r"tokenizer.length=.*every modality \(behavior, text, vision\)"):
        build(length=length)


def test_behavior_comes_first_and_is_needed():
    assert build(length=8).layout.modalities == ("behavior",) * 3 + ("text",) * 3 + ("vision",) * 2
    assert build(modalities=["vision", "behavior"]).layout.modalities == ("behavior",) * 3 + ("vision",) * 3
    with pytest.raises(UserError, match="behavior is missing"):
        build(modalities=["text", "vision"])
