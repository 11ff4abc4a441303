"""SASRec: ranks by inner product, ignores the future and padding, and learns a planted order."""

import pytest
import torch

from adasid_exp.nn.losses.next_item import BinaryCrossEntropy, FullSoftmax, InBatchSoftmax
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.sasrec import SasRec
from adasid_exp.types import SequenceBatch


def make(next_item, items=30, dropout=0.0):
    torch.manual_seed(0)
    settings = {"dim": 16, "blocks": 2, "heads": 2, "hidden": 16, "steps": 6, "init_std": 0.02}
    return SasRec(
        items=items,
        counts=torch.ones(items, dtype=torch.int64),
        encoder=CausalTransformer(**settings, dropout=dropout),
        init_std=0.02,
        next_item=next_item,
    )


def cycle(items=30, steps=6, users=64):
    """Item i is always followed by item i + 1: every step's answer is known."""
    start = torch.arange(users) % items
    whole = (start[:, None] + torch.arange(steps + 1)) % items
    length = torch.full((users,), steps)
    return SequenceBatch(user=torch.arange(users), history=whole[:, :-1], length=length, target=whole[:, 1:])


def held_out(batch):
    return SequenceBatch(user=batch.user, history=batch.history, length=batch.length, target=batch.target[:, -1])


@pytest.mark.parametrize(
    ("next_item", "above"),
    [(FullSoftmax(chunk=100), 0), (InBatchSoftmax(negatives=64), 0), (BinaryCrossEntropy(exponent=0.75), 6)],
)
def test_learns_a_planted_order(next_item, above):
    """The binary loss never speaks against the six items of a history, so those may stand above the next."""
    model, batch = make(next_item), cycle()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    assert (model.eval().rank(held_out(batch)).above <= above).float().mean() > 0.9


def test_scores_are_inner_products_with_the_item_vectors():
    model, batch = make(FullSoftmax(chunk=8)).eval(), held_out(cycle(users=5))
    state = model.states(batch.history)[:, -1]
    torch.testing.assert_close(model.scores(batch), state @ model.item_vectors().t())
    top = model.recommend(batch, 30)
    assert torch.equal(top.items.sort(1).values, torch.arange(30).expand(5, 30))
    assert (top.scores.diff(dim=1) <= 0).all()


def test_padding_and_batch_mates_change_nothing():
    model = make(FullSoftmax(chunk=8)).eval()
    short = SequenceBatch(
        user=torch.tensor([0]),
        history=torch.tensor([[3, 4]]),
        length=torch.tensor([2]),
        target=torch.tensor([5]),
    )
    padded = SequenceBatch(
        user=torch.tensor([0, 1]),
        history=torch.tensor([[3, 4, 0, 0, 0], [1, 2, 3, 4, 5]]),
        length=torch.tensor([2, 5]),
        target=torch.tensor([5, 6]),
    )
    torch.testing.assert_close(model.scores(short)[0], model.scores(padded)[0])


def test_loss_at_the_start_is_chance():
    """Small initial vectors score all items alike: the full softmax costs ln(items)."""
    loss = make(FullSoftmax(chunk=64)).eval().loss(cycle())
    assert loss.item() == pytest.approx(torch.log(torch.tensor(30.0)).item(), abs=0.1)


def test_every_parameter_is_trained():
    model = make(FullSoftmax(chunk=64))
    model.loss(cycle()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
