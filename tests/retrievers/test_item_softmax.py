"""The head trained on items: its loss and scores written out item by item, PAD, and what no loss may ask."""

import math

import pytest
import torch
from test_reg4rec import COUNTS, ITEMS, held_out, state_by_formula, table, training  # noqa: F401  a fixture

from adasid_exp.nn.item_prior import NoPrior, PopularityPrior
from adasid_exp.nn.losses.next_item import BinaryCrossEntropy, FullSoftmax, InBatchSoftmax
from adasid_exp.nn.slot_weights import MaskPad, PredictPad
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.item_softmax import ItemSoftmax
from adasid_exp.types import PAD, UserError

TAU = 0.2


def make(sids, pad=None, prior=None, next_item=None):
    torch.manual_seed(0)
    return ItemSoftmax(
        sids=sids,
        counts=COUNTS,
        prior=prior or NoPrior(),
        encoder=CausalTransformer(dim=16, blocks=2, heads=2, hidden=64, steps=6, init_std=0.1, dropout=0.0),
        hidden=16,
        temperature=TAU,
        init_std=0.1,
        pad=pad or PredictPad(share=0.1),
        next_item=next_item or InBatchSoftmax(negatives=7),
    ).eval()


def scores_by_formula(model, sids, state, masked=False):
    """sum_l cos(MLP_l(u), E_l[c_l]) / tau of every item, slot by slot; a masked PAD leaves the mean of the others."""
    first = torch.relu(model.heads.first(state)).view(3, 16)
    scores = []
    for own in sids.codes.tolist():
        parts = []
        for slot, code in enumerate(own):
            if masked and code == PAD:
                continue
            word = first[slot] @ model.heads.second[slot]  # PAD = -1 is the last class
            parts.append(torch.cosine_similarity(word, model.heads.output.table[slot, code], dim=0) / TAU)
        scores.append(sum(parts) / (len(parts) if masked else 1))
    return torch.stack(scores)


@pytest.mark.parametrize("masked", [False, True])
def test_loss_by_formula(training, masked):  # noqa: F811
    """Mean over positions of -log softmax of the next item among itself and the drawn ones that are not it."""
    sids = table()
    model = make(sids, pad=MaskPad() if masked else None)
    offered = [(u, s) for u in range(8) for s in range(int(training.length[u]))]
    items = torch.stack([training.target[place] for place in offered])
    states = state_by_formula(model, sids, training.history)
    torch.manual_seed(3)
    drawn = items[torch.randint(len(items), (7,))]
    terms = []
    for place, item in zip(offered, items, strict=True):
        scores = scores_by_formula(model, sids, states[place], masked)
        others = torch.cat([scores[item][None], scores[drawn[drawn != item]]])
        terms.append(others.logsumexp(0) - scores[item])
    torch.manual_seed(3)
    torch.testing.assert_close(model.loss(training), torch.stack(terms).mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_ranking_by_formula(training, masked):  # noqa: F811
    """Scores of the whole catalogue plus items * log p(i), of a SID's items their mean: they tie."""
    sids, batch = table(), held_out(training)
    model = make(sids, pad=MaskPad() if masked else None, prior=PopularityPrior(items=1.5))
    states = state_by_formula(model, sids, batch.history)
    mass = [int(count) + 1 for count in COUNTS]
    rows = [tuple(row) for row in sids.codes.tolist()]
    shared = [[m for m, other in zip(mass, rows, strict=True) if other == own] for own in rows]
    prior = torch.tensor([1.5 * math.log(sum(own) / len(own) / sum(mass)) for own in shared])
    last = [states[user, batch.length[user] - 1] for user in range(8)]
    scores = torch.stack([scores_by_formula(model, sids, state, masked) for state in last]) + prior
    top = model.recommend(batch, ITEMS)
    torch.testing.assert_close(top.scores, scores.sort(1, descending=True).values, rtol=1e-4, atol=1e-4)
    rank, own = model.rank(batch), scores.gather(1, batch.target[:, None])
    assert torch.equal(rank.above, (scores > own + 1e-4).sum(1))
    assert torch.equal(rank.tied, ((scores - own).abs() < 1e-4).sum(1))


def test_training_lowers_the_loss(training):  # noqa: F811
    model = make(table())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    torch.manual_seed(4)
    before = model.loss(training).item()
    for _ in range(30):
        optimizer.zero_grad()
        model.loss(training).backward()
        optimizer.step()
    torch.manual_seed(4)
    assert model.loss(training).item() < 0.5 * before


@pytest.mark.parametrize("pad", [MaskPad(), PredictPad(share=0.1)], ids=["mask", "predict"])
def test_every_parameter_learns(training, pad):  # noqa: F811
    model = make(table(), pad=pad, next_item=BinaryCrossEntropy(exponent=0.75))
    model.loss(training).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_all_items_at_once_are_refused():
    with pytest.raises(UserError, match="next_item=FullSoftmax asks for all; choose InBatchSoftmax"):
        make(table(), next_item=FullSoftmax(chunk=8))
