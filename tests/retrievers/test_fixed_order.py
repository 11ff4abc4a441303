"""Decoding in order: against exhaustive teacher-forced scores, and laws of the beam."""

from dataclasses import fields
from functools import partial

import pytest
import torch

from adasid_exp.functional.steps import last_steps
from adasid_exp.nn.slot_decoder import SlotDecoder
from adasid_exp.nn.slot_weights import EqualWeights, PredictPad
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.fixed_order import FixedOrder
from adasid_exp.types import PAD, SequenceBatch, SidTable

ITEMS, USERS = 60, 8


def table(items=ITEMS, sizes=(4, 3, 5, 4)):
    """Four slots, of which the last two may be PAD; the last items repeat the first one's SID."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.randint(0, size, (items,), generator=generator) for size in sizes], dim=1)
    codes[::3, 3] = PAD
    codes[::5, 2] = PAD
    codes[-5:] = codes[0]
    names = ("text", "text", "behavior", "behavior")
    return SidTable(codes=codes, weights=(codes != PAD).float(), sizes=sizes, modalities=names, ordered=True)


def make(sids, beam=100):
    torch.manual_seed(0)
    encoder = CausalTransformer(dim=16, blocks=1, heads=2, hidden=32, steps=6, dropout=0.0, init_std=0.3)
    return FixedOrder(
        sids=sids,
        encoder=encoder,
        decoder=partial(SlotDecoder, heads=2, hidden=16, temperature=0.2, init_std=0.5),
        init_std=0.5,
        sid_weights=EqualWeights(),
        pad=PredictPad(share=1.0),
        beam=beam,
    ).eval()


@pytest.fixture
def training():
    generator = torch.Generator().manual_seed(1)
    return SequenceBatch(
        user=torch.arange(USERS),
        history=torch.randint(0, ITEMS, (USERS, 6), generator=generator),
        length=torch.randint(1, 7, (USERS,), generator=generator),
        target=torch.randint(0, ITEMS, (USERS, 6), generator=generator),
    )


@pytest.fixture
def batch(training):
    return SequenceBatch(
        user=training.user, history=training.history, length=training.length, target=training.target[:, 0]
    )


def user_states(model, batch):
    tokens = model.tokens(model.catalogue.rows[batch.history])
    return last_steps(model.encoder(tokens), batch.length).detach()


@torch.no_grad()
def slot_logits(model, state, given, slot):
    """The decoder's formula for one user, one slot and a dict of codes (classes) fixed, written out head by head."""
    decoder, dim = model.decoder, len(state)
    query, key, value = (
        lambda x, part=part: (
            x @ decoder.qkv.weight[part * dim : (part + 1) * dim].t() + decoder.qkv.bias[part * dim : (part + 1) * dim]
        )
        for part in range(3)
    )
    source = torch.stack([state, *(decoder.code_norm(decoder.codes.table[s, c]) for s, c in given.items())])
    own = state + decoder.queries.table[slot, 0]
    mixed = []
    for head in range(decoder.attention_heads):
        part = slice(head * dim // decoder.attention_heads, (head + 1) * dim // decoder.attention_heads)
        match = key(source)[:, part] @ query(own)[part] / (dim / decoder.attention_heads) ** 0.5
        mixed.append(match.softmax(0) @ value(source)[:, part])
    known = decoder.norm(own + decoder.out(torch.cat(mixed)))
    hidden = decoder.heads.second.shape[1]
    first = decoder.heads.first
    rows = slice(slot * hidden, (slot + 1) * hidden)
    word = (known @ first.weight[rows].t() + first.bias[rows]).relu() @ decoder.heads.second[slot]
    return torch.cosine_similarity(word[None], decoder.heads.output.table[slot]) / decoder.heads.temperature


def exhaustive(model, sids, batch):
    """Score of every item for every user: teacher-forced, each slot's softmax over the legal codes only."""
    classes = torch.where(sids.codes == PAD, max(sids.sizes), sids.codes).tolist()
    scores = []
    for state in user_states(model, batch):
        known = {}  # log-probabilities of the legal codes by prefix
        for row in classes:
            for slot in range(len(row)):
                prefix = tuple(row[:slot])
                if prefix not in known:
                    legal = sorted({other[slot] for other in classes if tuple(other[:slot]) == prefix})
                    logits = slot_logits(model, state, dict(enumerate(prefix)), slot)[legal]
                    known[prefix] = dict(zip(legal, logits.log_softmax(0), strict=True))
        scores.append(torch.stack([sum(known[tuple(row[:s])][row[s]] for s in range(len(row))) for row in classes]))
    return torch.stack(scores)


def test_full_beam_equals_exhaustive_scores(batch):
    """Reference: every item scored along its own prefix, one at a time; ranks and lists follow."""
    sids = table()
    model = make(sids)
    scores = exhaustive(model, sids, batch)
    found = model.recommend(batch, ITEMS)
    torch.testing.assert_close(found.scores, scores.sort(1, descending=True).values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores.gather(1, found.items), found.scores, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.items.sort(1).values, torch.arange(ITEMS).expand(USERS, -1))
    own = scores.gather(1, batch.target[:, None])
    rank = model.rank(batch)
    assert torch.equal(rank.above, (scores > own + 1e-4).sum(1))
    assert torch.equal(rank.tied, ((scores - own).abs() < 1e-4).sum(1))


def test_probabilities_of_all_sids_sum_to_one(batch):
    """Law: renormalised over what exists, so nothing is left for SIDs that do not."""
    model = make(table())
    everything = model.search(batch, 10_000)
    torch.testing.assert_close(everything.scores.exp().sum(1), torch.ones(USERS), rtol=1e-5, atol=1e-5)


def test_probabilities_below_a_prefix_sum_to_the_prefix(batch):
    """Law: the SIDs that begin with a code hold the renormalised probability of that code (reference: by formula)."""
    sids = table()
    model = make(sids)
    everything = model.search(batch, 10_000)
    first = model.catalogue.distinct_classes[everything.sids, 0]
    legal = sids.codes[:, 0].unique()
    for user, state in enumerate(user_states(model, batch)):
        expected = slot_logits(model, state, {}, 0)[legal].softmax(0)
        sums = torch.stack([everything.scores[user][first[user] == code].exp().sum() for code in legal])
        torch.testing.assert_close(sums, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beam", [1, 3, 7])
def test_narrow_beam_by_hand(batch, beam):
    """Reference: beam search over Python tuples with the same log-probabilities, step by step."""
    sids = table()
    model = make(sids, beam=beam)
    classes = [tuple(row) for row in torch.where(sids.codes == PAD, 5, sids.codes).tolist()]
    found = model.search(batch, beam)
    for user, state in enumerate(user_states(model, batch)):
        beams = [((), 0.0)]
        for slot in range(4):
            grown = []
            for prefix, score in beams:
                legal = sorted({row[slot] for row in classes if row[:slot] == prefix})
                log_probs = slot_logits(model, state, dict(enumerate(prefix)), slot)[legal].log_softmax(0)
                grown += [((*prefix, c), score + float(p)) for c, p in zip(legal, log_probs, strict=True)]
            beams = sorted(grown, key=lambda entry: -entry[1])[:beam]
        tuples = [tuple(row) for row in model.catalogue.distinct_classes[found.sids[user]].tolist()]
        assert tuples == [prefix for prefix, _ in beams]
        assert all(row in classes for row in tuples)
        torch.testing.assert_close(found.scores[user], torch.tensor([s for _, s in beams]), rtol=1e-4, atol=1e-4)


def test_a_target_outside_the_beam_is_never_found(batch):
    """Law: its rank is infinite; within the beam the items above are those of the SIDs above."""
    sids = table()
    model = make(sids, beam=15)
    rank, found = model.rank(batch), model.search(batch, 15)
    sid_of = model.catalogue.of_item
    for user, target in enumerate(batch.target):
        place = (found.sids[user] == sid_of[target]).nonzero().flatten().tolist()
        before = found.sids[user, : place[0]] if place else torch.arange(0)
        items = sum(int((sid_of == sid).sum()) for sid in before) if place else ITEMS
        tied = int((sid_of == sid_of[target]).sum()) if place else 1
        assert (int(rank.above[user]), int(rank.tied[user])) == (items, tied)
    assert ITEMS in rank.above
    assert (rank.above < ITEMS).any()


def test_batch_size_changes_no_list(batch):
    model = make(table(), beam=6)
    whole = model.recommend(batch, 10)
    for row in range(USERS):
        one = SequenceBatch(**{f.name: getattr(batch, f.name)[row : row + 1] for f in fields(batch)})
        alone = model.recommend(one, 10)
        assert torch.equal(alone.items[0], whole.items[row])
        torch.testing.assert_close(alone.scores[0], whole.scores[row])


def test_loss_by_formula(training):
    """Mean over positions of sum_l w_l CE_l / sum_l w_l, softmax over all classes the slot has."""
    sids = table()
    model = make(sids)
    classes = torch.where(sids.codes == PAD, 5, sids.codes)
    states = model.encoder(model.tokens(model.catalogue.rows[training.history])).detach()
    terms = []
    for user in range(USERS):
        for step in range(training.length[user]):
            row = classes[training.target[user, step]].tolist()
            for slot in range(4):
                logits = slot_logits(model, states[user, step], dict(enumerate(row[:slot])), slot)
                has = [*range(sids.sizes[slot]), *([5] if slot >= 2 else [])]
                terms.append(-logits[has].log_softmax(0)[has.index(row[slot])])
    torch.testing.assert_close(model.loss(training), torch.stack(terms).mean(), rtol=1e-4, atol=1e-4)


def test_every_parameter_is_trained(training):
    model = make(table())
    model.loss(training).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
