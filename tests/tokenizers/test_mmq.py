"""What is particular to MMQ; what holds for every tokenizer is in tests/contracts."""

from functools import partial

import pytest
import torch

from adasid_exp.nn.losses.auxiliary import AuxiliaryDecoders, Orthogonality
from adasid_exp.nn.losses.reconstruction import BalancedReconstruction
from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.nn.straight_through import PerExpert
from adasid_exp.tokenizers.mmq import Mmq
from adasid_exp.types import ItemBatch, UserError

BOOK = partial(
    GradientCodebook, spherical=True, commitment=0.25, usage_decay=0.9, revive_below=0.1, kmeans_iterations=10
)


def items():
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randn(96, dim, generator=generator) for name, dim in (("text", 10), ("vision", 7))}
    return ItemBatch(index=torch.arange(96), features=features, count=torch.ones(96, dtype=torch.long))


def mmq(auxiliary=10 / 12, orthogonality=0.005 / 12, slots=None):
    torch.manual_seed(0)
    model = Mmq(
        dims={"text": 10, "vision": 7, "behavior": 5},
        modalities=["text", "vision"],
        slots=slots or {"shared": 2, "specific": 2},
        width={"hidden": 16, "latent": 8, "code": 6},
        size=8,
        codebook=BOOK,
        straight_through=PerExpert(),
        reconstruction=partial(BalancedReconstruction, weight=1.0),
        auxiliary=partial(AuxiliaryDecoders, weight=auxiliary),
        orthogonality=Orthogonality(weight=orthogonality),
        quantization=16.0,
        revival_items=64,
        fill_empty=False,
    )
    model.fit_statistics(items())
    model.start(items())
    return model


def test_slots_are_two_of_each_group():
    assert mmq().layout.modalities == ("shared", "shared", "text", "text", "vision", "vision")


def test_specific_slots_see_their_modality_alone_and_shared_slots_all():
    # Law (spec section 2): other images change shared and vision latents, not those of text.
    model, inputs = mmq(), mmq().targets(items())
    other = {**inputs, "vision": inputs["vision"].flip(0)}
    moved = (model.see(inputs).latents - model.see(other).latents).abs().sum((0, 2)) > 0
    assert moved.tolist() == [True, True, False, False, True, True]


def test_weights_are_one_for_shared_slots_and_sum_to_one_in_a_modality():
    weights = mmq().see(mmq().targets(items())).weights
    assert bool((weights[:, :2] == 1).all())
    for group in (weights[:, 2:4], weights[:, 4:]):
        torch.testing.assert_close(group.sum(1), torch.ones(96))
        assert group.std() > 0


def test_order_of_experts_in_a_group_only_orders_the_slots():
    # Law (spec 1.10.3): experts and codebooks of the shared group swapped, columns swap and the rest stays.
    model, swapped = mmq(), mmq()
    order = torch.tensor([1, 0, 2, 3, 4, 5])
    group = swapped.experts["shared"]
    with torch.no_grad():
        for parameter in (group.hidden.weight, group.hidden.bias):
            parameter.copy_(parameter.unflatten(0, (2, -1)).flip(0).flatten(0, 1))
        group.weight.copy_(group.weight.flip(0))
        group.bias.copy_(group.bias.flip(0))
        swapped.codebook.words.copy_(swapped.codebook.words[order])
    assert torch.equal(swapped.encode(items()).codes, model.encode(items()).codes[:, order])
    for name, values in swapped.reconstruct(items()).items():
        torch.testing.assert_close(values, model.reconstruct(items())[name], atol=1e-5, rtol=1e-4)


def test_the_extra_losses_go_with_their_weights():
    assert {"auxiliary", "orthogonality"} <= mmq().losses(items()).keys()
    bare = mmq(auxiliary=0.0, orthogonality=0.0).losses(items())
    assert bare.keys() == {"reconstruction", "quantization"}


def test_auxiliary_decoders_hear_their_modality_alone():
    # Law: text's auxiliary error reaches text's experts, not the shared ones nor vision's.
    model = mmq(orthogonality=0.0)
    terms = model.losses(items())
    terms["auxiliary"].backward()
    assert model.experts["shared"].weight.grad is None or not model.experts["shared"].weight.grad.any()
    text = [model.auxiliary.decoders["text"], model.experts["text"]]
    assert all(bool(parameter.grad.any()) for part in text for parameter in part.parameters())


def test_a_group_without_slots_is_one_line():
    with pytest.raises(UserError, match="must give shared and specific at least 1 slot each"):
        mmq(slots={"shared": 0, "specific": 2})
