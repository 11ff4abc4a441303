"""A retriever's lists by the integer filter, as docs/retrieval.md writes it, against its own."""

import pytest
import torch
from test_reg4rec import ITEMS, held_out, make, table, training  # noqa: F401  a fixture

from adasid_exp.nn.item_prior import BayesPrior, NoPrior
from adasid_exp.nn.slot_weights import MaskPad, PredictPad

pytest.importorskip("numba")

from adasid_exp.functional.integer_filter import filtered, filtered_top_k


@pytest.mark.parametrize("prior", [NoPrior(), BayesPrior(codes=0.75, items=1.25)], ids=["bare", "bayes"])
@pytest.mark.parametrize("pad", [MaskPad(), PredictPad(share=0.1)], ids=["mask", "predict"])
@pytest.mark.parametrize("weigh_scores", [False, True], ids=["plain", "weighed"])
def test_the_filter_finds_what_recommend_does(training, pad, prior, weigh_scores):  # noqa: F811
    """PAD, slots without weight, weights of SIDs, an item's prior and shared SIDs, which tie."""
    model, batch = make(table(), pad=pad, prior=prior, weigh_scores=weigh_scores), held_out(training)
    of_item = model.catalogue.of_item
    weights, prior = (None if part is None else part[of_item] for part in (model.score_weights, model.prior))
    ready = filtered(model.catalogue.rows, weights=weights, prior=prior)
    for k in (1, 4, ITEMS):  # 4 of 40 items by the filter, all of them by the plain scan
        ours, wanted = filtered_top_k(model.slot_scores(batch), ready, k), model.recommend(batch, k)
        assert torch.equal(ours.items, wanted.items)
        torch.testing.assert_close(ours.scores, wanted.scores, rtol=0 if weights is None else 1e-6, atol=0)
