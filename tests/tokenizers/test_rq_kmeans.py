"""What is particular to RQ-KMeans; what holds for every tokenizer is in tests/contracts."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from adasid_exp.functional.kmeans import kmeans
from adasid_exp.nn.clustering import GreedyKMeans, PlainKMeans
from adasid_exp.nn.positives import Positives
from adasid_exp.tokenizers.rq_kmeans import RqKmeans, false_negatives
from adasid_exp.training.optimizers import adamw
from adasid_exp.types import ItemBatch

ITEMS, GROUPS = 300, 10


def catalogue():
    """Content tells little; users stay within groups that content shows only in a few faint dimensions."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(ITEMS) % GROUPS
    text = torch.randn(ITEMS, 20, generator=generator)
    text[:, :GROUPS] += 1.5 * F.one_hot(group, GROUPS)
    features = {"text": text, "vision": torch.randn(ITEMS, 7, generator=generator)}
    return ItemBatch(index=torch.arange(ITEMS), features=features, count=torch.full((ITEMS,), 5))


def histories(users=400, length=8):
    generator = torch.Generator().manual_seed(1)
    group = torch.arange(users).repeat_interleave(length) % GROUPS
    items = group + GROUPS * torch.randint(0, ITEMS // GROUPS, (users * length,), generator=generator)
    return items, torch.arange(0, users * length + 1, length)


def build(seen=None, length=3, clustering=None, modalities=("text", "vision"), reconstruction=0.1):
    torch.manual_seed(0)
    model = RqKmeans(
        dims={"text": 20, "vision": 7},
        histories=histories() if seen is None else seen,
        counts=catalogue().count,
        modalities=modalities,
        hidden=[32],
        latent=16,
        length=length,
        size=10,
        positives=partial(Positives, top=5, history=50),
        temperature=0.1,
        reconstruction=reconstruction,
        clustering=clustering or PlainKMeans(iterations=20),
    )
    model.fit_statistics(catalogue())
    return model


def train(model, items, steps, first=1):
    optimizer = adamw(model, learning_rate=1e-2, weight_decay=0.0)
    for step in range(first, first + steps):
        optimizer.zero_grad()
        sum(model.losses(items).values()).backward()
        optimizer.step()
        model.after_step(step, 100)
    return model


def same_group(model, items):
    """Mean cosine within a group less that between groups."""
    vectors = model.vectors(items)
    cosine, group = vectors @ vectors.T, torch.arange(ITEMS) % GROUPS
    same = group[:, None] == group
    return (cosine[same].mean() - cosine[~same].mean()).item()


def test_tuning_brings_together_what_users_take_together():
    items, model = catalogue(), build()
    before = same_group(model, items)
    train(model, items, 100)
    assert same_group(model, items) > before + 0.3
    model.eval().finalize(items)
    codes, group = model.encode(items).codes[:, 0], torch.arange(ITEMS) % GROUPS
    table = torch.zeros(10, GROUPS).index_put_((codes, group), torch.ones(ITEMS), accumulate=True)
    assert table.max(1).values.sum() / ITEMS > 0.8  # purity of the first level


def test_one_level_is_plain_kmeans_of_the_tuned_vectors():
    items, model = catalogue(), build(length=1).eval()
    model.finalize(items)
    vectors = model.vectors(items).detach()
    words = kmeans(vectors, size=10, iterations=20, generator=model.generator(0), spherical=False)
    assert torch.equal(model.clusters.words[0], words)
    assert torch.equal(model.encode(items).codes[:, 0], torch.cdist(vectors, words).argmin(1))


def test_contrast_by_hand():
    # Every term of the loss written out for a batch of four, false negatives left out.
    items, model = catalogue(), build()
    rows = torch.tensor([4, 14, 24, 5])
    batch = ItemBatch(index=rows, features={k: v[rows] for k, v in items.features.items()}, count=items.count[rows])
    drawn, known = model.positives.draw(rows, model.generator(0))
    assert bool(known.all())
    vectors = model.vectors(items)
    total = 0.0
    for item, own in zip(rows.tolist(), drawn.tolist(), strict=True):
        allowed = [own] + [other for other in drawn.tolist() if other not in (own, item)]
        logits = torch.stack([vectors[item] @ vectors[other] / 0.1 for other in allowed])
        total += (logits.logsumexp(0) - logits[0]) / 4
    torch.testing.assert_close(model.losses(batch)["contrast"], total)


def test_false_negatives_by_hand():
    # Row 2 drew what row 0 drew; row 1 drew row 2's own item.
    clash = false_negatives(torch.tensor([1, 2, 3]), torch.tensor([7, 3, 7]), 0)
    assert clash.tolist() == [[False, False, True], [False, False, False], [True, True, False]]


def test_items_without_a_partner_are_only_reconstructed():
    # Nobody met anything: no contrast, and the gradient is that of the reconstruction alone.
    empty = (torch.zeros(0, dtype=torch.int64), torch.tensor([0]))
    losses = build(seen=empty).losses(catalogue())
    assert losses["contrast"] == 0
    assert losses["reconstruction"] > 0


def test_reconstruction_weight_is_a_factor():
    items = catalogue()
    full, tenth = (build(reconstruction=weight).losses(items)["reconstruction"] for weight in (1.0, 0.1))
    torch.testing.assert_close(full, 10 * tenth)


def test_finalize_twice_changes_nothing():
    items = catalogue()
    for clustering in (PlainKMeans(iterations=20), GreedyKMeans(iterations=10)):
        model = train(build(clustering=clustering), items, 3).eval()
        model.finalize(items)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.finalize(items)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_resuming_draws_what_the_first_run_would_have():
    # Law: 3 + 3 steps through a checkpoint are 6 steps, bit for bit (SGD has no state of its own).
    items = catalogue()

    def sgd(model, steps, first=1):
        for step in range(first, first + steps):
            model.zero_grad()
            sum(model.losses(items).values()).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
            model.after_step(step, 6)
        return model

    whole, half, other = sgd(build(), 6), sgd(build(), 3), build()
    other.load_state_dict(half.state_dict())
    resumed = sgd(other, 3, first=4)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_mean_vector_has_error_one():
    # Spec 13.1: the target is z-scored, so predicting its mean gives 1; the clusters do better.
    items, model = catalogue(), build().eval()
    model.finalize(items)
    target, guess = model.targets(items)["finetuned"], model.reconstruct(items)["finetuned"]
    assert math.isclose(target.square().mean().item(), 1.0, rel_tol=1e-3)
    assert (guess - target).square().mean() < 0.6


def test_checkpoints_hold_no_table_of_the_catalogue():
    # Content, histories and pairs come from the data; only balanced codes are kept, 4 bytes each.
    plain, balanced = build().state_dict(), build(clustering=GreedyKMeans(iterations=5)).state_dict()
    assert not any(name.startswith(("positives", "content")) for name in plain)
    assert plain["clusters.members"].numel() == 0
    assert balanced["clusters.members"].shape == (ITEMS, 3)
