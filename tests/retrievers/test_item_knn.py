"""Neighborhoods against dense numpy, popularity and the wrapper, and the published figure on real Beauty."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from adasid_exp.functional.scoring import rank_in_scores, top_k_of_scores
from adasid_exp.nn.metrics.retrieval import RetrievalMetrics
from adasid_exp.retrievers.frozen import Frozen
from adasid_exp.retrievers.item_knn import ItemKnn
from adasid_exp.retrievers.popularity import Popularity
from adasid_exp.types import SequenceBatch


def ragged(sequences):
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])])
    return torch.tensor(np.concatenate(sequences)), torch.tensor(offsets)


def batch_of(histories, targets):
    width = max(len(h) for h in histories)
    return SequenceBatch(
        user=torch.arange(len(histories)),
        history=torch.tensor([h + [0] * (width - len(h)) for h in histories]),
        length=torch.tensor([len(h) for h in histories]),
        target=torch.tensor(targets),
    )


def dense_scores(sequences, items, history, steps, decay):
    """Ten lines of numpy: cosine of user sets, last items of the history weighted by age."""
    seen = np.zeros((len(sequences), items))
    for user, sequence in enumerate(sequences):
        seen[user, sequence] = 1
    together = seen.T @ seen
    norm = np.sqrt(np.maximum(together.diagonal(), 1))
    similar = together / norm / norm[:, None]
    np.fill_diagonal(similar, 0)
    return sum(decay**age * similar[item] for age, item in enumerate(history[::-1][:steps]))


def test_scores_equal_dense_numpy():
    generator = np.random.default_rng(0)
    sequences = [generator.integers(0, 15, generator.integers(2, 9)).tolist() for _ in range(40)]
    histories = [generator.integers(0, 15, n).tolist() for n in (1, 3, 7, 7)]
    model = ItemKnn(items=15, histories=ragged(sequences), steps=4, decay=0.8)
    scores = model.scores(batch_of(histories, [0, 0, 0, 0]))
    wanted = np.stack([dense_scores(sequences, 15, history, 4, 0.8) for history in histories])
    np.testing.assert_allclose(scores.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_an_item_without_neighbors_scores_nothing():
    model = ItemKnn(items=4, histories=ragged([[0, 1], [2]]), steps=20, decay=0.8)
    assert model.scores(batch_of([[2], [3]], [0, 0])).tolist() == [[0.0] * 4, [0.0] * 4]


def test_popularity_and_its_ties():
    """Counts 5, 9, 5, 0: target 2 has one item above and shares its place with item 0."""
    model = Popularity(counts=torch.tensor([5, 9, 5, 0]))
    batch = batch_of([[3], [1, 2]], [2, 3])
    rank = model.rank(batch)
    assert rank.above.tolist() == [1, 3]
    assert rank.tied.tolist() == [2, 1]
    assert model.recommend(batch, 3).items.tolist() == [[1, 0, 2]] * 2


def test_popularity_ranks_as_the_dense_scores_do():
    """The order that is made once against comparing each user's target with every item's count."""
    counts = torch.randint(0, 40, (300,), generator=torch.Generator().manual_seed(0))
    target = torch.arange(300)
    batch = batch_of([[0]] * 300, target.tolist())
    model, dense = Popularity(counts=counts), counts.float().expand(300, -1)
    expected, listed = rank_in_scores(dense, target), top_k_of_scores(dense, 20)
    found = model.rank(batch)
    assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in ("above", "tied", "sid_tied"))
    assert torch.equal(model.recommend(batch, 20).items, listed.items)
    assert torch.equal(model.recommend(batch, 20).scores, listed.scores)


def test_frozen_ranks_as_its_retriever():
    model = Popularity(counts=torch.tensor([5, 9, 5, 0]))
    batch = batch_of([[3], [1, 2]], [2, 3])
    frozen = Frozen(behavior=model)
    assert torch.equal(frozen.rank(batch).above, model.rank(batch).above)
    assert torch.equal(frozen.recommend(batch, 2).items, model.recommend(batch, 2).items)
    assert not [p for p in frozen.parameters() if p.requires_grad]


@pytest.mark.beauty
@pytest.mark.skipif("ADASID_BEAUTY" not in os.environ, reason="ADASID_BEAUTY names no folder")
def test_published_figure_on_beauty():
    """Last 20 items, decay .8, co-occurrence over all but the last two: R@10 .0552, R@50 .1230 (within
    .003)."""
    table = pl.read_parquet(Path(os.environ["ADASID_BEAUTY"]) / "interactions.parquet")
    ids = {name: index for index, name in enumerate(table["item_id"].unique(maintain_order=True))}
    grouped = table.sort("user_id", "position").group_by("user_id", maintain_order=True).agg("item_id")
    sequences = [[ids[name] for name in row] for row in grouped["item_id"].to_list()]
    model = ItemKnn(items=len(ids), histories=ragged([s[:-2] for s in sequences]), steps=20, decay=0.8)
    metric = RetrievalMetrics(cutoffs=(10, 50))
    for start in range(0, len(sequences), 512):
        part = sequences[start : start + 512]
        metric.update(model.rank(batch_of([s[-21:-1] for s in part], [s[-1] for s in part])))
    values = metric.compute()
    assert values["recall@10"].item() == pytest.approx(0.0552, abs=0.003)
    assert values["recall@50"].item() == pytest.approx(0.1230, abs=0.003)
