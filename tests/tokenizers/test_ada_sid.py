"""What is particular to ADA-SID: its invariants, before and after training on planted structure."""

import math
from functools import partial

import pytest
import torch

from adasid_exp.functional.codebook import code_counts, token_entropy, utilisation
from adasid_exp.functional.richness import spearman
from adasid_exp.nn.losses.alignment import AdaptiveAlignment, BehaviorAnchor, ContentSum, NoAlignment
from adasid_exp.nn.losses.auxiliary import AuxiliaryDecoders, Orthogonality
from adasid_exp.nn.losses.reconstruction import BalancedReconstruction
from adasid_exp.nn.losses.sparsity import BucketSparsity, MeanTarget, NoSparsity, StrengthController
from adasid_exp.nn.quantizers.ema import EmaCodebook
from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.nn.quantizers.ibq import IbqCodebook
from adasid_exp.nn.quantizers.simvq import SimVqCodebook
from adasid_exp.nn.richness import L2Norm, MinMax, Rank, Richness
from adasid_exp.nn.routers.behavioral import BehavioralRouter, SigmoidScaler
from adasid_exp.nn.routers.uniform import UniformRouter
from adasid_exp.nn.straight_through import Fused, PerExpert
from adasid_exp.tokenizers.ada_sid import AdaSid
from adasid_exp.training.optimizers import adamw, warmup_cosine
from adasid_exp.types import PAD, ItemBatch, UserError

SIZE = 24
BOOK = {"spherical": True, "commitment": 0.25, "usage_decay": 0.9, "revive_below": 0.1, "kmeans_iterations": 15}
GRADIENT = partial(GradientCodebook, **BOOK)


def catalogue(items=2048, seed=0, sign=1):
    """Latent classes seen by two content modalities; behavior whose norm and truth rise with a Zipf count."""
    g = torch.Generator().manual_seed(seed)
    count = (2 + 400 / (1 + torch.randperm(items, generator=g).float() * 200 / items) ** 1.1).long()
    classes = torch.randn(60, 8, generator=g)
    latent = classes[torch.randint(60, (items,), generator=g)] + 0.3 * torch.randn(items, 8, generator=g)
    text, vision = (
        latent @ torch.randn(8, dim, generator=g) + 0.5 * torch.randn(items, dim, generator=g) for dim in (16, 12)
    )
    noise = (1 + count.float()[:, None]) ** -0.5
    private = torch.randn(items, 10, generator=g)
    true = torch.tanh(latent) @ torch.randn(8, 10, generator=g) + private + 1
    behavior = ((1 - noise) * true + noise * torch.randn(items, 10, generator=g)) * (1 - noise) ** sign
    return ItemBatch(
        index=torch.arange(items), features={"text": text, "vision": vision, "behavior": behavior}, count=count
    )


def router(kind=BehavioralRouter, threshold=0.0):
    if kind is UniformRouter:
        return UniformRouter
    return partial(
        BehavioralRouter, hidden=32, bias=0.3, scaler=SigmoidScaler(), bound=torch.nn.Identity(), threshold=threshold
    )


def bucket_sparsity(mean=0.4):
    knobs = {"growth": 1.05, "smoothing": 0.9, "floor": 1e-4, "ceiling": 0.05, "dead_band": 0.0, "settle": 0.9}
    return partial(BucketSparsity, target=MeanTarget(mean=mean), controller=StrengthController(buckets=10, **knobs))


def alignment(**overrides):
    knobs = {"alpha": 10.0, "beta": 9.0, "temperature": 0.07, "weight": 0.1} | overrides
    return AdaptiveAlignment(pairing=ContentSum(anchor=BehaviorAnchor()), **knobs)


def build(items=None, seed=0, dims=None, **parts):
    torch.manual_seed(seed)
    items = items or catalogue()
    arguments = {
        "dims": dims or {name: rows.shape[1] for name, rows in items.features.items()},
        "modalities": None,
        "slots": {"shared": 1, "content": 1, "behavior": 5},
        "size": SIZE,
        "width": {"hidden": 32, "latent": 16, "code": 16},
        "codebook": GRADIENT,
        "router": router(),
        "richness": Richness(source=L2Norm(), normalizer=Rank(), require_positive_correlation=True),
        "align": alignment(),
        "sparsity": bucket_sparsity(),
        "straight_through": PerExpert(),
        "reconstruction": partial(BalancedReconstruction, weight=1.0),
        "auxiliary": partial(AuxiliaryDecoders, weight=0.0),
        "orthogonality": Orthogonality(weight=0.0),
        "quantization": 16.0,
        "revival_items": 1024,
        "fill_empty": False,
    }
    model = AdaSid(**(arguments | parts))
    model.fit_statistics(items)
    return model


def rows(items, chosen):
    features = {name: values[chosen] for name, values in items.features.items()}
    return ItemBatch(index=items.index[chosen], features=features, count=items.count[chosen])


def fit(model, items, epochs, batch=256, rate=3e-3):
    """A bare loop with the hooks in the order the training module calls them."""
    per_epoch = math.ceil(len(items.index) / batch)
    total, step = epochs * per_epoch, 0
    optimizer = adamw(model, learning_rate=rate, weight_decay=1e-4)
    curve = warmup_cosine(optimizer, warmup_steps=50, total_steps=total, floor=0.01)
    for epoch in range(epochs):
        for chosen in torch.randperm(len(items.index), generator=torch.Generator().manual_seed(epoch)).split(batch):
            if not model.started and step >= 40:
                model.start(items)
            torch.stack(list(model.losses(rows(items, chosen)).values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            curve.step()
            step += 1
            model.after_step(step, total)
        model.end_epoch(items, step, total)
    model.finalize(items)
    return model.eval()


@pytest.fixture(scope="module")
def items():
    return catalogue()


@pytest.fixture(scope="module")
def trained(items):
    return fit(build(items), items, epochs=130)


def started(items, **parts):
    model = build(items, **parts)
    model.start(items)
    return model


# --- what training must bring about (spec 1.10, items 7 and 8) -----------------------------------------------


def test_richer_items_use_more_behavior_slots(trained, items):
    facts = trained.diagnostics(items)
    used = facts["behavior_slots"].float()
    deciles = used[facts["richness"].argsort()].tensor_split(10)
    assert deciles[-1].mean() - deciles[0].mean() >= 1
    assert spearman(used, facts["richness"]) > 0.3


def test_mean_sparsity_meets_its_target(trained, items):
    used = trained.diagnostics(items)["behavior_slots"].float()
    assert abs(1 - used.mean().item() / 5 - 0.4) <= 0.05


def test_every_code_is_used_and_evenly(trained, items):
    counts = code_counts(trained.encode(items).codes, sizes=trained.layout.sizes)
    assert utilisation(counts, sizes=trained.layout.sizes).min() >= 0.99
    assert token_entropy(counts).mean() >= 0.9 * math.log(SIZE)


def test_poor_items_are_not_aligned(trained, items):
    facts = trained.diagnostics(items)
    order = facts["richness"].argsort()
    assert facts["align_weight"][order[:200]].max() < 0.01
    assert facts["align_weight"][order[-1]] == 1


def test_codes_reconstruct_better_than_the_mean(trained, items):
    targets, ours = trained.targets(items), trained.reconstruct(items)
    assert set(ours) == {"text", "vision", "behavior"}
    for name, target in targets.items():
        assert (ours[name] - target).square().mean() < 0.8 * target.square().mean()


# --- emission --------------------------------------------------------------------------------------------------


def test_sids_have_their_form(trained, items):
    encoded, layout = trained.encode(items), trained.layout
    assert layout.modalities == ("shared", "text", "vision") + ("behavior",) * 5
    assert layout.sizes == (SIZE,) * 8
    assert not layout.ordered
    assert encoded.codes.max() < SIZE
    assert encoded.codes[:, :3].min() >= 0  # PAD only in behavior slots
    assert encoded.codes.min() == PAD
    assert (encoded.weights[:, :3] == 1).all()
    assert torch.equal(encoded.weights == 0, encoded.codes == PAD)


def test_sids_do_not_depend_on_the_batch(trained, items):
    whole = trained.encode(items)
    again = trained.encode(items)
    parts = [trained.encode(rows(items, chosen)) for chosen in items.index.split(77)]
    assert torch.equal(whole.codes, again.codes)
    assert torch.equal(whole.weights, again.weights)
    assert torch.equal(torch.cat([part.codes for part in parts]), whole.codes)


def test_a_higher_threshold_shortens_sids_without_training(trained, items):
    before = trained.encode(items)
    threshold = before.weights[:, 3:][before.weights[:, 3:] > 0].median().item()
    trained.router.threshold = threshold
    after = trained.encode(items)
    trained.router.threshold = 0.0
    kept = after.codes != PAD
    assert torch.equal(kept[:, 3:], before.weights[:, 3:] > threshold)
    assert torch.equal(after.codes[kept], before.codes[kept])
    assert 0.4 < kept[:, 3:].sum() / (before.codes[:, 3:] != PAD).sum() < 0.6


def test_a_checkpoint_gives_the_same_sids(trained, items):
    fresh = build(items, seed=1)
    fresh.load_state_dict(trained.state_dict())
    assert fresh.started
    assert torch.equal(fresh.eval().encode(items).codes, trained.encode(items).codes)


def test_items_without_interactions_have_content_and_no_richness(trained, items):
    cold = rows(items, torch.arange(4))
    cold = ItemBatch(index=cold.index, features=cold.features, count=torch.zeros(4, dtype=torch.int64))
    assert trained.diagnostics(cold)["richness"].tolist() == [0.0] * 4
    assert (trained.targets(cold)["behavior"] == 0).all()
    assert torch.equal(trained.encode(cold).codes[:, 1:3], trained.encode(items).codes[:4, 1:3])


# --- mathematics -----------------------------------------------------------------------------------------------


def permuted_behavior(model, order):
    """The same model with its behavior experts, codebooks and router rows in another order."""
    twin = build(seed=9)
    twin.load_state_dict(model.state_dict())
    group, gate = twin.mixture.experts["behavior"], twin.router.gates[-1]
    slots = torch.cat([torch.arange(3), 3 + order])
    with torch.no_grad():
        group.hidden.weight.copy_(group.first_weights()[order].flatten(0, 1))
        group.hidden.bias.copy_(group.hidden.bias.unflatten(0, (5, -1))[order].flatten())
        for parameter in (group.weight, group.bias, gate.weight, gate.bias):
            parameter.copy_(parameter[order])
        twin.codebook.words.copy_(twin.codebook.words[slots])
    return twin.eval(), slots


def test_permuting_behavior_experts_permutes_their_slots(trained, items):
    twin, slots = permuted_behavior(trained, torch.tensor([3, 0, 4, 1, 2]))
    assert torch.equal(twin.encode(items).codes, trained.encode(items).codes[:, slots])
    for name, rebuilt in trained.reconstruct(items).items():
        torch.testing.assert_close(twin.reconstruct(items)[name], rebuilt, atol=1e-5, rtol=1e-4)


def test_a_shut_slot_neither_speaks_nor_learns(items):
    model = started(items, sparsity=NoSparsity, align=NoAlignment(), quantization=0.0)
    with torch.no_grad():
        model.router.gates[-1].weight[2], model.router.gates[-1].bias[2] = 0, -1  # slot 2 of behavior: R = 0
    terms = model.losses(rows(items, torch.arange(64)))
    terms["reconstruction"].backward()
    group = model.mixture.experts["behavior"]
    assert group.weight.grad[2].abs().sum() == 0
    assert group.weight.grad[1].abs().sum() > 0
    before = model.eval().reconstruct(items)
    with torch.no_grad():
        group.weight[2] += 1
        model.codebook.words[5] += 1
    assert all(torch.equal(before[name], after) for name, after in model.reconstruct(items).items())
    assert (model.encode(items).codes[:, 5] == PAD).all()


def test_the_router_does_not_hear_the_latents(items):
    model = started(items).eval()
    before = model.view(items).routed
    with torch.no_grad():
        model.mixture.experts["behavior"].weight.mul_(7)
    assert torch.equal(model.view(items).routed, before)


@pytest.mark.parametrize("form", [PerExpert(), Fused()])
@pytest.mark.parametrize("book", [GRADIENT, partial(EmaCodebook, **BOOK, decay=0.9)])
def test_reconstruction_alone_never_moves_codewords(items, form, book):
    model = started(items, straight_through=form, codebook=book)
    model.losses(rows(items, torch.arange(64)))["reconstruction"].backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in model.codebook.parameters())


def test_ibq_lets_reconstruction_move_codewords(items):
    model = started(items, codebook=partial(IbqCodebook, **BOOK, temperature=0.1))
    model.losses(rows(items, torch.arange(64)))["reconstruction"].backward()
    assert model.codebook.words.grad.abs().sum() > 0


def test_alignment_of_poor_items_moves_no_behavior(items):
    """w is 0 in float32 for items of richness 0; D_b then learns from reconstruction alone."""
    model = started(items, align=alignment(alpha=200.0, beta=190.0))
    batch = rows(items, model.diagnostics(items)["richness"].argsort()[:64])
    terms = model.losses(batch)
    (terms["align_behavior"] + terms["align_content"]).backward()
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in model.mixture.projections["behavior"].parameters())
    assert model.mixture.projections["text"][0].weight.grad.abs().sum() > 0


def test_quantization_is_bypassed_until_the_start(items):
    model = build(items)
    assert set(model.losses(rows(items, torch.arange(32)))) == {"reconstruction", "align_behavior", "align_content"}
    model.start(items)
    assert set(model.losses(rows(items, torch.arange(32)))) == {
        "reconstruction", "quantization", "sparsity", "align_behavior", "align_content"
    }  # fmt: skip


def test_the_strengths_wait_for_the_start_and_settle_at_the_end(items):
    model = build(items)
    model.after_step(1, 100)
    assert (model.sparsity.controller.strength == 1e-4).all()
    model.start(items)
    model.losses(items)
    model.after_step(95, 100)
    assert (model.sparsity.controller.strength == 1e-4).all()
    model.after_step(50, 100)
    assert (model.sparsity.controller.strength > 1.04e-4).any()


# --- parts ------------------------------------------------------------------------------------------------------


def test_without_a_router_every_slot_speaks(items):
    model = started(items, router=UniformRouter, sparsity=NoSparsity).eval()
    encoded = model.encode(items)
    assert (encoded.codes >= 0).all()
    assert (encoded.weights == 1).all()
    assert "sparsity" not in model.losses(rows(items, torch.arange(8)))


@pytest.mark.parametrize(
    "book",
    [
        partial(EmaCodebook, **BOOK, decay=0.9),
        partial(IbqCodebook, **BOOK, temperature=0.1),
        partial(SimVqCodebook, **BOOK),
    ],
)
def test_every_codebook_rule_learns(items, book):
    small = rows(items, torch.arange(512))
    model = build(small, codebook=book)
    first = sum(model.losses(small).values()).item()
    fit(model, small, epochs=40)
    counts = code_counts(model.encode(small).codes, sizes=model.layout.sizes)
    assert sum(model.train().losses(small).values()).item() < first
    assert utilisation(counts, sizes=model.layout.sizes).mean() > 0.8


def test_extras_reach_every_group(items):
    model = started(
        items,
        slots={"shared": 2, "text": 2, "vision": 1, "behavior": 3},
        auxiliary=partial(AuxiliaryDecoders, weight=10.0),
        orthogonality=Orthogonality(weight=0.005),
    )
    terms = model.losses(rows(items, torch.arange(64)))
    assert {"auxiliary", "orthogonality"} <= set(terms)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.layout.modalities == ("shared",) * 2 + ("text",) * 2 + ("vision",) + ("behavior",) * 3


def test_any_set_of_content_modalities(items):
    features = {**items.features, "audio": items.features["text"][:, :5] * 2}
    many = ItemBatch(index=items.index, features=features, count=items.count)
    dims = {name: values.shape[1] for name, values in features.items()}
    model = started(many, dims=dims, modalities=["audio", "text", "behavior"], slots={"content": 2, "behavior": 2})
    assert model.layout.modalities == ("audio", "audio", "text", "text", "behavior", "behavior")
    assert set(model.reconstruct(many)) == {"audio", "text", "behavior"}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"modalities": ["text", "vision"]}, "needs the embedding 'behavior'"),
        ({"modalities": ["behavior"]}, "one of content"),
        ({"slots": {"shared": 1, "visio": 1, "behavior": 5}}, "visio"),
        ({"slots": {"shared": 1, "content": 1}}, "behavior at least 1"),
    ],
)
def test_slots_that_do_not_fit_are_refused_in_one_line(items, parts, words):
    with pytest.raises(UserError, match=words) as caught:
        build(items, **parts)
    assert "\n" not in str(caught.value)


def test_norms_that_fall_with_counts_are_refused():
    inverted = catalogue(sign=-8)
    with pytest.raises(UserError, match="richness@tokenizer.richness=log_count"):
        build(inverted)
    build(inverted, richness=Richness(source=L2Norm(), normalizer=MinMax(), require_positive_correlation=False))
