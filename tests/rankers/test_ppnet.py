"""PPNet against its equations in ten lines, and what users it has never met get."""

from dataclasses import replace
from functools import partial

import torch

from adasid_exp.nn.gate import GatedMlp
from adasid_exp.nn.pooling import MeanPooling
from adasid_exp.nn.representations.item_id import ItemId
from adasid_exp.rankers.ppnet import PPNet
from adasid_exp.types import ImpressionBatch

USERS, ITEMS = 5, 9


def ppnet(hidden=(6, 3)):
    torch.manual_seed(0)
    return PPNet(
        users=USERS,
        representation=ItemId(items=ITEMS, dim=4, prior_dim=2),
        pooling=MeanPooling,
        tower=partial(GatedMlp, hidden=list(hidden), gate_hidden=4, scale=2.0, dropout=0.0),
        feature_dim=3,
        prior_dim=2,
        length_buckets=[0, 2],
    )


def batch():
    return ImpressionBatch(
        user=torch.tensor([0, 4, USERS, USERS + 3]),
        item=torch.tensor([8, 1, 1, 1]),
        history=torch.tensor([[1, 2, 3], [4, 0, 0], [0, 0, 0], [0, 0, 0]]),
        length=torch.tensor([3, 1, 0, 0]),
        label=torch.tensor([1.0, 0.0, 1.0, 0.0]),
    )


def test_features_and_priors_are_those_of_the_paper():
    model, rows = ppnet(), batch()
    vectors = model.representation.vectors.weight
    # Row 0: user 0, item 8, mean of items 1..3, and length 3 in the last of the buckets (0, 1..2, 3...).
    features = torch.cat([model.user.weight[0], vectors[8], vectors[1:4].mean(0), model.history_length.weight[2]])
    prior = torch.cat([model.user_prior.weight[0], model.representation.priors.weight[8]])
    expected = model.tower(features[None], prior[None])[0]
    torch.testing.assert_close(model(rows)[0], expected)
    # Row 1: length 1 is in bucket 1; the padding behind it is not pooled.
    features = torch.cat([model.user.weight[4], vectors[1], vectors[4], model.history_length.weight[1]])
    prior = torch.cat([model.user_prior.weight[4], model.representation.priors.weight[1]])
    torch.testing.assert_close(model(rows)[1], model.tower(features[None], prior[None])[0])


def test_unknown_users_share_a_zero_row_that_never_learns():
    model, rows = ppnet(), batch()
    logits = model(rows)
    assert logits[2] == logits[3]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    logits.sum().backward()
    optimizer.step()
    assert bool((model.user.weight[USERS] == 0).all())
    assert bool((model.user_prior.weight[USERS] == 0).all())


def test_width_of_the_padding_and_other_rows_change_nothing():
    model, rows = ppnet(), batch()
    wider = replace(rows, history=torch.cat([rows.history, torch.full((4, 2), 7)], 1))
    torch.testing.assert_close(model(wider), model(rows))
    alone = ImpressionBatch(**{name: value[1:2] for name, value in vars(rows).items()})
    torch.testing.assert_close(model(alone), model(rows)[1:2])


def test_it_learns_a_preference_only_the_user_explains():
    """A law of the model: a label that depends on the user alone can be fitted from the user's id."""
    model = ppnet(hidden=(32, 16))
    user = torch.arange(USERS).repeat(20)
    rows = ImpressionBatch(
        user=user,
        item=torch.arange(100) % ITEMS,
        history=torch.zeros(100, 1, dtype=torch.int64),
        length=torch.zeros(100, dtype=torch.int64),
        label=(user % 2).float(),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(rows), rows.label)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.01
