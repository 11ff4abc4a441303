"""The log that DAS draws from and the collaborative part that learns from the draws."""

import math

import pytest
import torch

from adasid_exp.nn.disentangled_cf import DisentangledCF
from adasid_exp.nn.interactions import Drawn, Interactions

HISTORIES = (torch.tensor([0, 1, 2, 3, 1, 2, 5]), torch.tensor([0, 3, 4, 4, 7]))
"""Users 0: items 0 1 2; 1: item 3; 2: nothing; 3: items 1 2 5. Nobody has met item 4."""
OWN = {0: {0, 1, 2}, 1: {3}, 3: {1, 2, 5}}


def log():
    torch.manual_seed(0)
    return Interactions(histories=HISTORIES, items=6)


def test_draws_are_of_the_log():
    drawn = log().draw(4000)
    columns = zip(
        *(getattr(drawn, name).tolist() for name in ("user", "item", "other_item", "other_user")), strict=True
    )
    for user, item, other_item, other_user in columns:
        assert item in OWN[user]
        assert other_item in OWN[user]
        assert item in OWN[other_user]
        assert other_item != item or len(OWN[user]) == 1
        assert other_user != user or sum(item in own for own in OWN.values()) == 1


def test_draws_are_uniform():
    # Law: 7 interactions and 6 negatives alike; 4 standard deviations of a binomial.
    drawn = log().draw(20_000)
    pairs = (drawn.user * 10 + drawn.item).unique(return_counts=True)[1]
    for counts, cells in ((pairs, 7), (drawn.negative.bincount(), 6)):
        assert len(counts) == cells
        spread = 4 * math.sqrt(20_000 / cells * (1 - 1 / cells))
        assert bool(((counts - 20_000 / cells).abs() < spread).all())


def test_counts_are_of_the_log():
    assert log().counts.tolist() == [1, 2, 2, 1, 0, 1]


def test_a_resumed_log_draws_what_the_first_would():
    # Law: seed and step decide alone, whatever the seed of the process that resumes.
    first = log()
    first.after_step(3)
    torch.manual_seed(99)
    again = Interactions(histories=HISTORIES, items=6)
    assert not torch.equal(again.draw(50).item, first.draw(50).item)
    again.load_state_dict(first.state_dict())
    assert torch.equal(again.draw(50).item, first.draw(50).item)
    first.after_step(4)
    assert not torch.equal(again.draw(50).item, first.draw(50).item)


def test_a_log_stays_out_of_checkpoints():
    assert set(log().state_dict()) == {"progress"}


@pytest.mark.parametrize(
    "histories", [(torch.tensor([7]), torch.tensor([0, 1])), (torch.tensor([]), torch.tensor([0]))]
)
def test_a_log_that_does_not_fit_says_so(histories):
    with pytest.raises(ValueError, match="does not fit a catalogue of 6 items"):
        Interactions(histories=histories, items=6)


def test_the_collaborative_loss_by_hand():
    # One width, so every cosine is 1 and the overlap of users and of items is 2.
    # Row 1: item 0 (5 times) against 1 (twice): by interest 2*(1-3) = -4, by conformity 1*(2-1) = 1.
    # Row 2: item 1 against 0: by interest 2*(3-1) = 4, by conformity 1*(1-2) = -1.
    model = DisentangledCF(users=1, items=2, width=1, weight=2.0, parts_weight=0.1, orthogonality=0.01)
    values = {"interest": [2.0], "conformity": [1.0], "property": [1.0, 3.0], "popularity": [2.0, 1.0]}
    for name, column in values.items():
        getattr(model, name).weight.data = torch.tensor(column)[:, None]
    item, user = torch.tensor([0, 1]), torch.tensor([0, 0])
    drawn = Drawn(user=user, item=item, other_item=item, other_user=user, negative=1 - item)
    term = model(drawn, torch.tensor([5, 2]))["cf"].item()

    def bpr(margin):
        return math.log1p(math.exp(-margin))

    whole = (bpr(-3) + bpr(3)) / 2
    parts = (bpr(1) + bpr(4)) / 2  # conformity where the positive is the more popular, interest where it is not
    assert term == pytest.approx(2 * (whole + 0.1 * parts + 0.01 * 2), abs=1e-5)
