"""Draws from a log and contrasts of what was drawn, against plain references."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adasid_exp.functional.contrastive import info_nce
from adasid_exp.functional.interactions import COLDEST, another_of_run, distinct_info_nce, first_seen


@pytest.mark.parametrize("length", [2, 3, 7])
def test_another_of_a_run_is_each_other_place_alike(length):
    # By counting: with one draw in the middle of each of length-1 equal shares, every other place comes once.
    first = 40
    for place in range(first, first + length):
        draw = (torch.arange(length - 1, dtype=torch.float64) + 0.5) / (length - 1)
        rows = torch.ones(length - 1, dtype=torch.int64)
        drawn = another_of_run(rows * place, rows * first, rows * length, draw)
        assert sorted(drawn.tolist()) == [p for p in range(first, first + length) if p != place]


def test_a_run_of_one_gives_itself():
    one = torch.tensor([1])
    assert another_of_run(one * 9, one * 9, one, torch.tensor([0.99], dtype=torch.float64)).tolist() == [9]


def test_first_seen_is_numpys_unique():
    ids = torch.randint(0, 30, (200,), generator=torch.Generator().manual_seed(0))
    expected = np.zeros(200, dtype=bool)
    expected[np.unique(ids.numpy(), return_index=True)[1]] = True
    assert first_seen(ids, 30).tolist() == expected.tolist()


def contrast(rows=24, dim=5):
    """Two terms whose candidates repeat: equal ids have equal vectors."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 12, (2, rows), generator=generator)
    words = torch.randn(2, 12, dim, generator=generator)
    candidates = torch.stack([words[t][ids[t]] for t in range(2)])
    distinct = torch.stack([first_seen(own, 12) for own in ids])
    return torch.randn(2, rows, dim, generator=generator), candidates, distinct, ids, words


def test_contrast_counts_every_id_once():
    # Independent reference: torch's cross-entropy over the ids themselves, each present once.
    anchors, candidates, distinct, ids, words = contrast()
    losses = distinct_info_nce(anchors, candidates, distinct, temperature=0.07).mean(1)
    for term in range(2):
        present, target = ids[term].unique(return_inverse=True)
        cosines = F.cosine_similarity(anchors[term][:, None], words[term][present][None], dim=2)
        torch.testing.assert_close(losses[term], F.cross_entropy(cosines / 0.07, target))


def test_without_repetition_it_is_plain_info_nce():
    anchors, candidates, *_ = contrast()
    candidates = candidates + torch.randn(candidates.shape, generator=torch.Generator().manual_seed(2))
    losses = distinct_info_nce(anchors, candidates, torch.ones(2, 24, dtype=torch.bool), temperature=0.2).mean(1)
    for term in range(2):
        expected = info_nce(anchors[term], candidates[term], temperature=0.2).mean()
        torch.testing.assert_close(losses[term], expected)


def test_opposite_vectors_stay_finite_at_the_lowest_temperature():
    # By hand: two candidates opposite to their anchors, the loss is log(2 exp(-80)) + 80 = log 2.
    anchors = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]], requires_grad=True)
    loss = distinct_info_nce(anchors, -anchors.detach(), torch.ones(1, 2, dtype=torch.bool), temperature=COLDEST).mean(
        1
    )
    loss.sum().backward()
    assert loss.item() == pytest.approx(np.log(2), abs=1e-4)
    assert bool(torch.isfinite(anchors.grad).all())
