"""Standardisation of item batches."""

import torch

from adasid_exp.nn.standardize import Standardize
from adasid_exp.types import ItemBatch


def batch(count):
    generator = torch.Generator().manual_seed(0)
    rows = len(count)
    return ItemBatch(
        index=torch.arange(rows),
        features={
            "text": 3.0 + 2.0 * torch.randn(rows, 4, generator=generator),
            "behavior": -1.0 + torch.randn(rows, 2, generator=generator),
        },
        count=torch.tensor(count),
    )


def test_items_with_interactions_have_mean_0_and_variance_1():
    items = batch([1, 0, 2, 3, 0, 9])
    module = Standardize(dims={"text": 4, "behavior": 2})
    module.fit(items)
    seen = items.count > 0
    for values in module(items).values():
        torch.testing.assert_close(values[seen].mean(0), torch.zeros(values.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(values[seen].std(0, correction=0), torch.ones(values.shape[1]))
    assert module.seen.item() == 4


def test_cold_items_have_text_but_no_behavior():
    items = batch([1, 0, 2, 3])
    module = Standardize(dims={"text": 4, "behavior": 2})
    module.fit(items)
    values = module(items)
    assert values["behavior"][1].tolist() == [0.0, 0.0]
    assert values["text"][1].abs().min() > 0


def test_cold_items_do_not_move_the_statistics():
    items = batch([1, 0, 2, 3])
    items.features["behavior"][1] = 1e6
    with_cold, without = Standardize(dims={"behavior": 2}), Standardize(dims={"behavior": 2})
    with_cold.fit(items)
    keep = items.count > 0
    features = {"behavior": items.features["behavior"][keep]}
    without.fit(ItemBatch(index=items.index[keep], features=features, count=items.count[keep]))
    assert with_cold.state_dict().keys() == without.state_dict().keys()
    for name, value in without.state_dict().items():
        assert torch.equal(with_cold.state_dict()[name], value), name
