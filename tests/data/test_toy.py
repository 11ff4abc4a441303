"""The toy data: 5-core by construction, reproducible, and the planted structure is really there."""

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.splits import leave_one_out, temporal, training_counts
from adasid_exp.data.toy import Toy

SIZES = {"users": 600, "items": 300, "classes": 12, "mean_length": 10.0, "zipf_exponent": 1.1}
DEFAULT = {**SIZES, "preference": 10.0, "momentum": 1.0, "tail_noise": 0.0, "seed": 0}


def _toy(**changes):
    return Toy(**{**DEFAULT, **changes})


@pytest.fixture(scope="module")
def raw():
    return _toy().read()


@pytest.fixture(scope="module")
def dataset(raw):
    return Dataset.from_raw(raw, minimum_interactions=5)


def test_equal_arguments_give_equal_bytes(raw):
    again = _toy().read()
    assert again.interactions.equals(raw.interactions)
    assert again.items.equals(raw.items)
    assert all(np.array_equal(again.arrays[name], raw.arrays[name]) for name in raw.arrays)
    other = _toy(seed=1).read()
    assert not other.interactions.equals(raw.interactions)
    assert _toy().fingerprint() == _toy().fingerprint() != _toy(seed=1).fingerprint()


def test_five_core_without_repeats(raw, dataset):
    # from_raw drops what is below five: nothing is
    assert (len(dataset.user_ids), len(dataset.item_ids), len(dataset.user)) == (
        600,
        300,
        raw.interactions.height,
    )
    assert raw.interactions.select("user_id", "item_id").is_duplicated().sum() == 0
    assert 9 < raw.interactions.height / 600 < 12


def test_rows_are_in_the_order_of_time_by_day(raw):
    ordered = raw.interactions.sort("user_id", "timestamp", "position")
    assert ordered.equals(raw.interactions)
    assert (raw.interactions["timestamp"] % 86_400 == 0).all()
    assert raw.interactions.select("user_id", "timestamp").is_duplicated().any()  # ties within a day do occur


def test_shares_of_labels(raw):
    liked = raw.interactions["liked"]
    rows = raw.interactions.height
    assert 1 - liked.null_count() / rows == pytest.approx(0.8, abs=4 * (0.8 * 0.2 / rows) ** 0.5)
    assert liked.drop_nulls().mean() == pytest.approx(0.8, abs=4 * (0.8 * 0.2 / rows) ** 0.5)


def test_popularity_is_planted(dataset):
    planted = _toy().catalogue().popularity
    assert planted.sum() == pytest.approx(1.0)
    assert np.corrcoef(np.log(planted), np.log(dataset.counts))[0, 1] > 0.5
    head = np.sort(dataset.counts)[-30:].sum() / dataset.counts.sum()
    assert head > 0.25  # a tenth of the items takes more than a quarter of the rows


@pytest.mark.parametrize("modality", ["text", "vision", "true_behavior"])
def test_neighbors_share_their_class(raw, modality):
    table = raw.arrays[modality].astype(float)
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    likeness = table @ table.T
    np.fill_diagonal(likeness, -1)
    group = raw.items["class"].to_numpy()
    agreement = (group[likeness.argmax(axis=1)] == group).mean()
    assert agreement > 5 / 12  # chance is one in twelve


def test_modalities_share_a_part_and_keep_a_part(raw):
    def predicted(target, source):
        """Share of variance of one modality that a linear map of another explains, on the other half."""
        x = np.hstack([source, np.ones((len(source), 1))])
        weights = np.linalg.lstsq(x[:150], target[:150], rcond=None)[0]
        rest = ((target[150:] - x[150:] @ weights) ** 2).sum()
        return 1 - rest / ((target[150:] - target[:150].mean(axis=0)) ** 2).sum()

    text, vision, behavior = (raw.arrays[name] for name in ("text", "vision", "true_behavior"))
    assert 0.3 < predicted(vision, text) < 0.9
    assert 0.3 < predicted(behavior, text) < 0.9


def test_items_describe_their_class(raw):
    items = raw.items
    per_class = items.group_by("class").agg(pl.col("brand").n_unique(), pl.col("categories").n_unique())
    assert per_class["brand"].max() == 3
    assert per_class["categories"].max() == 1
    spread = items.with_columns(pl.col("price").log()).group_by("class").agg(pl.col("price").std())["price"]
    assert spread.mean() < 0.5 * np.log(items["price"].to_numpy()).std()


def _hit_rate(dataset, score):
    """Recall@10 of the last item under ``score`` of the item before it."""
    split = leave_one_out(dataset)
    last, target = dataset.item[split.validation], dataset.item[split.test]
    scores = score(training_counts(dataset, split), last)
    return ((scores > np.take_along_axis(scores, target[:, None], axis=1)).sum(axis=1) < 10).mean()


def test_what_came_last_beats_popularity(raw, dataset):
    true = raw.arrays["true_behavior"].astype(float)
    by_count = _hit_rate(dataset, lambda counts, last: np.tile(counts, (len(last), 1)))
    by_last = _hit_rate(dataset, lambda counts, last: 10 * true[last] @ true.T + np.log(counts + 1))
    assert by_last > 1.5 * by_count


def test_momentum_is_what_orders_sequences(raw):
    def following(momentum):
        toy = _toy(momentum=momentum)
        choices, behavior = toy.choices(), toy.catalogue().behavior
        same = choices.user[1:] == choices.user[:-1]
        return (behavior[choices.item[1:]] * behavior[choices.item[:-1]]).sum(axis=1)[same].mean()

    assert following(1.0) > following(0.0) + 0.05


def test_likes_follow_the_taste(raw):
    toy = _toy()
    choices, behavior = toy.choices(), toy.catalogue().behavior
    affinity = (choices.taste[choices.user] * behavior[choices.item]).sum(axis=1)
    liked = raw.interactions["liked"].to_list()
    likes = affinity[[label is True for label in liked]]
    dislikes = affinity[[label is False for label in liked]]
    assert likes.mean() > dislikes.mean() + 0.5 * affinity.std()


def test_tail_noise_blurs_the_tail_only():
    def agreement(tail_noise):
        """Mean cosine of an item's vector and its audience's mean taste, for rare and common items."""
        toy = _toy(tail_noise=tail_noise)
        choices, catalogue = toy.choices(), toy.catalogue()
        audience = np.zeros_like(catalogue.behavior)
        np.add.at(audience, choices.item, choices.taste[choices.user])
        audience /= np.linalg.norm(audience, axis=1, keepdims=True)
        cosine = (audience * catalogue.behavior).sum(axis=1)
        order = np.argsort(catalogue.popularity)
        return cosine[order[:150]].mean(), cosine[order[-15:]].mean()

    clean, noisy = agreement(0.0), agreement(3.0)
    assert noisy[0] < clean[0] - 0.2
    assert abs(noisy[1] - clean[1]) < 0.1


def test_both_tasks_find_their_parts(dataset):
    assert len(leave_one_out(dataset).test) == 600
    split = temporal(dataset, test_share=0.1, validation_share=0.1)
    user, liked = dataset.user[split.test], dataset.liked[split.test]
    seen, some = np.bincount(user), np.bincount(user, weights=liked)
    assert ((some > 0) & (some < seen)).sum() >= 20  # users over which a grouped AUC can be taken
