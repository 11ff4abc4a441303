"""Item batches: every item once an epoch, its own features, in batches of near-equal size."""

import numpy as np
import pytest
import torch

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.data.items import ItemDataModule

ITEMS = 103


@pytest.fixture(scope="module")
def embeddings():
    generator = np.random.default_rng(0)
    features = {
        name: generator.normal(size=(ITEMS, dim)).astype(np.float32) for name, dim in [("text", 4), ("behavior", 3)]
    }
    return ItemEmbeddings(features=features, count=generator.integers(0, 50, ITEMS))


def test_each_item_comes_once_with_its_own_row(embeddings):
    loader = ItemDataModule(embeddings=embeddings, batch_size=25, seed=0).train_dataloader()
    batches = list(loader)
    # ceil(103 / 25) = 5 batches of 20 or 21: none small, none above the batch size, none dropped
    assert sorted(len(batch.index) for batch in batches) == [20, 20, 21, 21, 21]
    assert len(loader) == 5
    index = torch.cat([batch.index for batch in batches]).numpy()
    assert sorted(index) == list(range(ITEMS))
    for name, table in embeddings.features.items():
        assert np.array_equal(torch.cat([batch.features[name] for batch in batches]).numpy(), table[index])
    assert np.array_equal(torch.cat([batch.count for batch in batches]).numpy(), embeddings.count[index])


def test_the_catalogue_in_order(embeddings):
    items = ItemDataModule(embeddings=embeddings, batch_size=25, seed=0).items
    assert items.index.tolist() == list(range(ITEMS))
    assert np.array_equal(items.features["text"].numpy(), embeddings.features["text"])


def test_epochs_differ_and_seeds_repeat(embeddings):
    def epochs(seed):
        loader = ItemDataModule(embeddings=embeddings, batch_size=25, seed=seed).train_dataloader()
        return [torch.cat([batch.index for batch in loader]).tolist() for _ in range(2)]

    first, second = epochs(0)
    assert first != second
    assert epochs(0) == [first, second]
    assert epochs(1)[0] != first
