"""SASRec on a hashed table: the plain one where every item has a row of its own, exact ranks, bounded memory."""

import pytest
import torch

from adasid_exp.nn.losses.next_item import BinaryCrossEntropy, FullSoftmax, InBatchSoftmax
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers import sasrec_hashed
from adasid_exp.retrievers.sasrec import SasRec
from adasid_exp.retrievers.sasrec_hashed import SasRecHashed
from adasid_exp.types import SequenceBatch, UserError

ITEMS = 30


def make(kind, next_item, items=ITEMS, **table):
    torch.manual_seed(0)
    settings = {"dim": 16, "blocks": 2, "heads": 2, "hidden": 16, "steps": 6, "init_std": 0.02, "dropout": 0.0}
    counts = torch.ones(items, dtype=torch.int64)
    encoder = CausalTransformer(**settings)
    return kind(items=items, counts=counts, encoder=encoder, init_std=0.02, next_item=next_item, **table)


def cycle(users=64, steps=6, items=ITEMS):
    """Item i is always followed by item i + 1."""
    whole = (torch.arange(users)[:, None] + torch.arange(steps + 1)) % items
    length = torch.full((users,), steps)
    return SequenceBatch(user=torch.arange(users), history=whole[:, :-1], length=length, target=whole[:, 1:])


def held_out(batch):
    return SequenceBatch(user=batch.user, history=batch.history, length=batch.length, target=batch.target[:, -1])


def identity(model):
    """One hash that sends every item to the row of its number."""
    model.table.factors.fill_(1)
    model.table.shifts.fill_(0)
    return model


@pytest.mark.parametrize("loss", [lambda: InBatchSoftmax(negatives=16), lambda: BinaryCrossEntropy(exponent=0.0)])
def test_with_a_row_an_item_it_is_the_plain_one(loss):
    """Law: one hash that is the identity; losses, gradients, ranks and lists are those of the item table."""
    plain = make(SasRec, loss()).eval()
    hashed = identity(make(SasRecHashed, loss(), rows=ITEMS, hashes=1)).eval()
    hashed.load_state_dict(plain.state_dict())
    values = []
    for model in (plain, hashed):
        torch.manual_seed(1)
        values.append(model.loss(cycle()))
        values[-1].backward()
    torch.testing.assert_close(*values)
    torch.testing.assert_close(plain.table.weight.grad, hashed.table.weight.grad)
    torch.testing.assert_close(hashed.item_vectors(), plain.item_vectors().detach())
    batch = held_out(cycle())
    assert torch.equal(plain.rank(batch).above, hashed.rank(batch).above)
    assert torch.equal(plain.recommend(batch, 7).items, hashed.recommend(batch, 7).items)


@pytest.mark.parametrize("block", [7, 1 << 20])
def test_ranks_and_lists_are_exact(monkeypatch, block):
    """Against the scores of all items from their vectors; block and tile sizes do not show."""
    monkeypatch.setattr(sasrec_hashed, "BLOCK", block)
    monkeypatch.setattr(sasrec_hashed, "TILE", block)
    monkeypatch.setattr(sasrec_hashed, "USERS_AT_ONCE", 9)
    model, batch = make(SasRecHashed, InBatchSoftmax(negatives=4), rows=17, hashes=2).eval(), held_out(cycle(20))
    with torch.no_grad():
        scores = model.states(batch.history)[:, -1] @ model.item_vectors().t()
    own = scores.gather(1, batch.target[:, None])
    found = model.rank(batch)
    assert torch.equal(found.above, (scores > own + 1e-6).sum(1))
    assert torch.equal(found.tied, ((scores - own).abs() <= 1e-6).sum(1))
    top = model.recommend(batch, 12)
    torch.testing.assert_close(top.scores, scores.topk(12).values)
    torch.testing.assert_close(scores.gather(1, top.items), top.scores)


def test_items_that_share_all_rows_tie():
    """Three rows, one hash: ten items a row on average, told apart by nothing, listed by number."""
    model, batch = make(SasRecHashed, InBatchSoftmax(negatives=4), rows=3, hashes=1).eval(), held_out(cycle(20))
    row = model.table.hashed(torch.arange(ITEMS))[:, 0]
    assert torch.equal(model.rank(batch).tied, (row == row[batch.target][:, None]).sum(1))
    items = model.recommend(batch, ITEMS).items
    same = row[items[:, 1:]] == row[items[:, :-1]]
    assert (items.diff(dim=1)[same] > 0).all()


def test_it_learns_a_planted_order_with_fewer_rows_than_items():
    model, batch = make(SasRecHashed, InBatchSoftmax(negatives=64), rows=24, hashes=2), cycle()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    assert (model.eval().rank(held_out(batch)).above == 0).float().mean() > 0.9


def test_the_catalogue_takes_no_memory():
    """Parameters and buffers are the same for a catalogue a thousand times the size; so is what a step asks for."""
    small, large = (make(SasRecHashed, InBatchSoftmax(negatives=4), n, rows=50, hashes=2) for n in (30, 30_000))
    sizes = [sum(t.numel() for t in (*model.parameters(), *model.buffers())) for model in (small, large)]
    assert sizes[0] == sizes[1]
    large.loss(cycle()).backward()
    assert large.table.weight.grad.shape == (50, 16)


def test_a_softmax_over_the_catalogue_is_refused():
    with pytest.raises(UserError, match="InBatchSoftmax"):
        make(SasRecHashed, FullSoftmax(chunk=8), rows=50, hashes=2)
