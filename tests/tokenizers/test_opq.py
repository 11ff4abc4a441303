"""What is particular to OPQ; what holds for every tokenizer is in tests/contracts."""

import pytest
import torch

from adasid_exp.functional.kmeans import kmeans
from adasid_exp.tokenizers.opq import Opq
from adasid_exp.types import ItemBatch, UserError


def mixture(items=900, clusters=30, dim=20):
    generator = torch.Generator().manual_seed(0)
    centers = 2 * torch.randn(clusters, dim, generator=generator)
    text = centers[torch.arange(items) % clusters] + 0.4 * torch.randn(items, dim, generator=generator)
    vision = torch.randn(items, 7, generator=generator)
    return ItemBatch(
        index=torch.arange(items), features={"text": text, "vision": vision}, count=torch.ones(items).long()
    )


def build(modalities=("text",), length=4, size=12, subspace=8, alternations=15, fitted=True):
    torch.manual_seed(0)
    model = Opq(
        dims={"text": 20, "vision": 7},
        modalities=modalities,
        length=length,
        size=size,
        subspace=subspace,
        start_iterations=10,
        alternations=alternations,
        iterations=1,
    )
    if fitted:
        model.fit_statistics(mixture())
    return model.eval()


def recon(model, items):
    targets, decoded = model.targets(items), model.reconstruct(items)
    return {name: (decoded[name] - targets[name]).square().mean().item() for name in decoded}


def test_the_error_is_that_of_the_codes_and_of_what_the_axes_leave_out():
    # Pythagoras: the axes are orthonormal, so both parts of the error add up.
    items = mixture()
    for subspace in (8, 3):  # 20 of 20 axes, then 12
        model = build(subspace=subspace)
        inputs = model.inputs(items)
        inside = inputs @ model.axes
        outside = inputs.square().sum(1) - inside.square().sum(1)
        left = model.distances(items).min(2).values.sum(1) + inside.square().sum(1)
        expected = (outside + left).mean().item() / 20
        assert recon(model, items)["text"] == pytest.approx(expected, rel=1e-4)


def test_any_number_of_codes_and_every_one_used():
    # 12 codewords, which faiss cannot do; 30 clusters fill them.
    codes = build().encode(mixture()).codes
    assert all(column.unique().numel() == 12 for column in codes.T)


def test_one_code_is_plain_kmeans_of_the_text():
    # Spec 4: k-means knows no axes, so turning the text to its own changes nothing but rounding.
    items, model = mixture(), build(length=1, subspace=20)
    inside = model.inputs(items) @ model.axes
    generator = model.generator(0)
    words = kmeans(inside, size=12, iterations=10 + 15, generator=generator, spherical=False)
    assert torch.equal(model.codewords[0], words)
    back = words @ model.axes.T
    assert torch.equal(model.encode(items).codes[:, 0], torch.cdist(model.inputs(items), back).argmin(1))


def test_rotation_lowers_the_error():
    items = mixture()
    assert recon(build(), items)["text"] < recon(build(alternations=0), items)["text"]


def test_two_fits_are_one():
    items, model = mixture(), build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.fit_statistics(items)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_several_modalities_are_coded_together():
    items, model = mixture(), build(modalities=["vision", "text"], length=3, subspace=32)
    assert model.layout.modalities == ("vision+text",) * 3
    assert model.axes.shape == (27, 27)
    errors = recon(model, items)
    assert errors["text"] < 0.7  # clusters are told
    assert 0.5 < errors["vision"] < 1.0  # noise hardly


def test_too_short_embeddings_are_named():
    with pytest.raises(UserError, match=r"tokenizer.length=21: text have 20 dimensions"):
        build(length=21, fitted=False)
