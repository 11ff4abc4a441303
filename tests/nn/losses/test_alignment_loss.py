"""Alignment terms against loops over the formulas, and their laws."""

import pytest
import torch

from adasid_exp.functional.contrastive import info_nce
from adasid_exp.nn.losses.alignment import (
    AdaptiveAlignment,
    BehaviorAnchor,
    BothAnchors,
    ContentAnchor,
    ContentSum,
    NoAlignment,
    Pairwise,
    UniformAlignment,
)

TAU = 0.07


def adaptive(pairing=None, **overrides):
    knobs = {"alpha": 10.0, "beta": 9.0, "temperature": TAU, "weight": 1.0} | overrides
    return AdaptiveAlignment(pairing=pairing or ContentSum(anchor=BehaviorAnchor()), **knobs)


def views(items=8, names=("text", "vision", "behavior"), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(items, 4, generator=generator, requires_grad=True) for name in names}


def one_way(a, b):
    return info_nce(a, b, temperature=TAU)


def test_equation_17_term_by_term():
    h = views()
    richness = torch.linspace(0, 1, 8)
    terms = adaptive(weight=0.1)(h, richness)
    weight = torch.sigmoid(10 * richness - 9) / torch.sigmoid(torch.tensor(1.0))
    behavior = (weight * one_way(h["behavior"], h["text"] + h["vision"])).mean()
    content = (one_way(h["text"], h["vision"]) + one_way(h["vision"], h["text"])).mean()
    torch.testing.assert_close(terms["align_behavior"], 0.1 * behavior)
    torch.testing.assert_close(terms["align_content"], 0.1 * content)


@pytest.mark.parametrize("pairing", [ContentSum, Pairwise])
def test_anchors(pairing):
    h, rich = views(), torch.ones(8)
    term = {
        anchor: adaptive(pairing(anchor=anchor()))(h, rich)["align_behavior"]
        for anchor in (BehaviorAnchor, ContentAnchor, BothAnchors)
    }
    contents = [h["text"] + h["vision"]] if pairing is ContentSum else [h["text"], h["vision"]]
    torch.testing.assert_close(term[BehaviorAnchor], sum(one_way(h["behavior"], c).mean() for c in contents))
    torch.testing.assert_close(term[ContentAnchor], sum(one_way(c, h["behavior"]).mean() for c in contents))
    torch.testing.assert_close(term[BothAnchors], term[BehaviorAnchor] + term[ContentAnchor])


def test_every_pair_of_content_modalities_is_aligned():
    h = views(names=("text", "vision", "audio", "behavior"))
    terms = adaptive()(h, torch.ones(8))
    names = ("text", "vision", "audio")
    expected = sum(one_way(h[a], h[b]).mean() for a in names for b in names if a != b)
    torch.testing.assert_close(terms["align_content"], expected)


def test_one_content_modality_has_no_content_term():
    assert set(adaptive()(views(names=("text", "behavior")), torch.ones(8))) == {"align_behavior"}


def test_a_batch_of_one_has_no_loss():
    terms = adaptive()(views(items=1), torch.ones(1))
    assert [term.item() for term in terms.values()] == [0.0, 0.0]


def test_poor_items_send_no_gradient_into_behavior():
    """w is 0 in float32 at (200, 190) and richness 0."""
    h = views()
    torch.stack(list(adaptive(alpha=200.0, beta=190.0)(h, torch.zeros(8)).values())).sum().backward()
    assert h["behavior"].grad.abs().sum() == 0
    assert h["text"].grad.abs().sum() > 0


def test_both_sides_of_a_rich_pair_are_moved():
    h = views()
    adaptive()(h, torch.ones(8))["align_behavior"].backward()
    assert all(h[name].grad.abs().sum() > 0 for name in h)


def test_permuting_the_batch_changes_nothing():
    h, richness = views(), torch.linspace(0, 1, 8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    plain = adaptive()(h, richness)
    permuted = adaptive()({name: rows[order] for name, rows in h.items()}, richness[order])
    for name in plain:
        torch.testing.assert_close(permuted[name], plain[name])


def test_without_controller_every_item_counts_as_a_rich_one():
    h = views()
    uniform = UniformAlignment(temperature=TAU, weight=1.0, pairing=ContentSum(anchor=BehaviorAnchor()))
    poor = uniform(h, torch.zeros(8))["align_behavior"]
    torch.testing.assert_close(poor, adaptive()(h, torch.ones(8))["align_behavior"])
    assert uniform.strength(torch.zeros(2)).tolist() == [1.0, 1.0]


def test_no_alignment_has_no_term():
    assert NoAlignment()(views(), torch.ones(8)) == {}
    assert NoAlignment().strength(torch.ones(2)).tolist() == [0.0, 0.0]
