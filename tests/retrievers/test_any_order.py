"""Decoding the surest slot first: against an exhaustive walk over Python bitsets, and laws of the order."""

from dataclasses import fields
from functools import partial
from itertools import product

import pytest
import torch

from adasid_exp.functional.steps import last_steps
from adasid_exp.nn.slot_decoder import SlotDecoder
from adasid_exp.nn.slot_weights import EqualWeights, PredictPad
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.any_order import AnyOrder
from adasid_exp.types import PAD, SequenceBatch, SidTable

ITEMS, USERS, SLOTS = 60, 8, 4


def table(sizes=(4, 3, 5, 4)):
    """Four slots, of which the last two may be PAD; the last items repeat the first one's SID."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.randint(0, size, (ITEMS,), generator=generator) for size in sizes], dim=1)
    codes[::3, 3] = PAD
    codes[::5, 2] = PAD
    codes[-5:] = codes[0]
    return sid_table(codes, sizes)


def sid_table(codes, sizes):
    names = tuple("text" for _ in sizes)
    return SidTable(codes=codes, weights=(codes != PAD).float(), sizes=sizes, modalities=names, ordered=False)


def make(sids, beam=100):
    torch.manual_seed(0)
    return AnyOrder(
        sids=sids,
        encoder=CausalTransformer(dim=16, blocks=1, heads=2, hidden=32, steps=6, dropout=0.0, init_std=0.3),
        decoder=partial(SlotDecoder, heads=2, hidden=16, temperature=0.2, init_std=0.5),
        init_std=0.5,
        sid_weights=EqualWeights(),
        pad=PredictPad(share=1.0),
        beam=beam,
    ).eval()


def random_batch(items, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return SequenceBatch(
        user=torch.arange(USERS),
        history=torch.randint(0, items, (USERS, 6), generator=generator),
        length=torch.randint(1, 7, (USERS,), generator=generator),
        target=torch.randint(0, items, (USERS, 6), generator=generator),
    )


@pytest.fixture
def training():
    return random_batch(ITEMS)


@pytest.fixture
def batch(training):
    return held_out(training)


def held_out(batch):
    return SequenceBatch(user=batch.user, history=batch.history, length=batch.length, target=batch.target[:, 0])


@torch.no_grad()
def user_states(model, batch):
    return last_steps(model.encoder(model.tokens(model.catalogue.rows[batch.history])), batch.length)


@torch.no_grad()
def logits_of(model, state, given, slot):
    """Logits of one slot for one user who has the codes of the dict ``given`` fixed: the decoder sees these alone."""
    memory = model.decoder.remember(state[None])
    codes = torch.tensor([[given.get(s, 0) for s in range(model.catalogue.slots)]])
    seen = torch.tensor([[[s in given for s in range(model.catalogue.slots)]]])
    asked = torch.tensor([[s == slot for s in range(model.catalogue.slots)]])
    user = torch.zeros(1).long()
    ((_, _, logits),) = model.decoder.logits(memory, user, codes, seen, asked, model.catalogue.bias)
    return logits[0]


def bitsets(rows):
    """inv[slot][code]: which distinct SIDs have the code, as the bits of an integer."""
    inverse = [{} for _ in rows[0]]
    for number, row in enumerate(rows):
        for slot, code in enumerate(row):
            inverse[slot][code] = inverse[slot].get(code, 0) | 1 << number
    return inverse


def walk(model, state, inverse, given, candidates, score):
    """One step of a partial SID: what it becomes, as (codes fixed, candidates, score), by the rule of the paper."""
    given, options = dict(given), {}
    for slot, codes in enumerate(inverse):
        allowed = [code for code, bits in sorted(codes.items()) if bits & candidates]
        if len(allowed) == 1:
            given[slot] = allowed[0]  # nothing to choose: probability 1 after renormalising
        elif slot not in given:
            options[slot] = allowed
    if not options:
        return [(given, candidates, score)]
    choices = {
        s: dict(zip(a, logits_of(model, state, given, s)[a].log_softmax(0), strict=True)) for s, a in options.items()
    }
    surest = max(choices, key=lambda s: max(choices[s].values()))
    return [
        ({**given, surest: code}, candidates & inverse[surest][code], score + float(log_prob))
        for code, log_prob in choices[surest].items()
    ]


def beam_by_bitsets(model, state, width):
    """(row of the distinct SIDs, score), best first: plain beam search, all steps in Python."""
    rows = model.catalogue.distinct_classes.tolist()
    inverse = bitsets(rows)
    beam = [({}, (1 << len(rows)) - 1, 0.0)]
    for _ in range(len(inverse)):
        grown = [child for given, bits, score in beam for child in walk(model, state, inverse, given, bits, score)]
        maps = [frozenset(given.items()) for given, _, _ in grown]
        assert len(set(maps)) == len(maps)  # the tree has no two partial SIDs that fix the same codes
        beam = sorted(grown, key=lambda entry: -entry[2])[:width]
    return [(bits.bit_length() - 1, score) for _, bits, score in beam]


@pytest.mark.parametrize("width", [1, 4, 10, 1000])
def test_search_equals_bitsets_in_python(batch, width):
    """Reference: beam search over integers as bitsets; at 1000 nothing is cut, so this is the exhaustive score."""
    model = make(table(), beam=width)
    found = model.search(batch, width)
    for user, state in enumerate(user_states(model, batch)):
        expected = beam_by_bitsets(model, state, width)
        assert found.sids[user].tolist() == [sid for sid, _ in expected]
        scores = torch.tensor([score for _, score in expected])
        torch.testing.assert_close(found.scores[user], scores, rtol=1e-4, atol=1e-4)


def test_orders_differ_between_users(batch):
    """The oracle must not pass because every user takes the slots in one order."""
    model = make(table())
    inverse = bitsets(model.catalogue.distinct_classes.tolist())
    everything = (1 << len(model.catalogue.sharers)) - 1
    first = {next(iter(walk(model, s, inverse, {}, everything, 0.0)[0][0])) for s in user_states(model, batch)}
    assert len(first) > 1


def test_full_beam_holds_each_sid_once_and_all_probability(batch):
    """Laws: existing SIDs only, each by one path, and their probabilities sum to 1."""
    model = make(table())
    everything = model.search(batch, 10_000)
    sids = torch.arange(len(model.catalogue.sharers))
    assert torch.equal(everything.sids.sort(1).values, sids.expand(USERS, -1))
    torch.testing.assert_close(everything.scores.exp().sum(1), torch.ones(USERS), rtol=1e-5, atol=1e-5)


def test_independent_slots_and_all_tuples_equal_the_parallel_score():
    """Spec section 11: if no slot depends on others and every tuple exists, S = sum_l log p_l(c_l) in any order."""
    sizes = (3, 4, 2)
    sids = sid_table(torch.tensor(list(product(*map(range, sizes)))), sizes)
    model, batch = make(sids), held_out(random_batch(len(sids.codes)))
    with torch.no_grad():  # only the user's own value passes the attention
        model.decoder.out.weight.zero_()
    found = model.recommend(batch, len(sids.codes))
    for user, state in enumerate(user_states(model, batch)):
        parts = [logits_of(model, state, {}, s)[:size].log_softmax(0)[sids.codes[:, s]] for s, size in enumerate(sizes)]
        best = sum(parts).sort(descending=True)
        torch.testing.assert_close(found.scores[user], best.values, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(sum(parts)[found.items[user]], found.scores[user], rtol=1e-4, atol=1e-4)


def test_items_that_share_a_sid_share_their_ranks(batch):
    """Law: all holders of a SID stand in one block behind the holders of better SIDs."""
    sids = table()
    model = make(sids)
    everything = model.search(batch, 10_000)
    target = torch.full((USERS,), ITEMS - 1)
    rank = model.rank(SequenceBatch(user=batch.user, history=batch.history, length=batch.length, target=target))
    holders = int((sids.codes == sids.codes[0]).all(1).sum())
    assert rank.tied.tolist() == [holders] * USERS
    for user in range(USERS):
        place = everything.sids[user].tolist().index(int(model.catalogue.of_item[-1]))
        better = everything.sids[user, :place]
        assert int(rank.above[user]) == sum(int((model.catalogue.of_item == sid).sum()) for sid in better)


def test_batch_size_changes_no_list(batch):
    model = make(table(), beam=6)
    whole = model.recommend(batch, 10)
    for row in range(USERS):
        one = SequenceBatch(**{f.name: getattr(batch, f.name)[row : row + 1] for f in fields(batch)})
        alone = model.recommend(one, 10)
        assert torch.equal(alone.items[0], whole.items[row])
        torch.testing.assert_close(alone.scores[0], whole.scores[row])


def test_as_many_slots_are_shown_as_drawn():
    """Law: sizes of the subset are uniform in 0 .. slots - 1, and every slot is asked for equally often."""
    model = make(table())
    torch.manual_seed(0)
    seen, asked = model.shown(20_000, torch.device("cpu"))
    assert torch.equal(seen[:, 0], ~asked)
    sizes = torch.bincount(seen.sum((1, 2)), minlength=SLOTS + 1) / 20_000
    torch.testing.assert_close(sizes, torch.tensor([0.25, 0.25, 0.25, 0.25, 0.0]), rtol=0, atol=0.02)
    torch.testing.assert_close(asked.float().mean(0), torch.full((SLOTS,), 0.625), rtol=0, atol=0.02)


def test_loss_by_formula(training, monkeypatch):
    """Mean over positions of sum of CE over the slots asked for, divided by how many these are."""
    sids = table()
    model = make(sids)
    classes = torch.where(sids.codes == PAD, 5, sids.codes)
    states = model.encoder(model.tokens(model.catalogue.rows[training.history])).detach()
    places = [(user, step) for user in range(USERS) for step in range(training.length[user])]
    seen, asked = model.shown(len(places), torch.device("cpu"))
    monkeypatch.setattr(model, "shown", lambda positions, device: (seen, asked))
    terms = []
    for number, (user, step) in enumerate(places):
        row = classes[training.target[user, step]].tolist()
        given = {slot: row[slot] for slot in range(SLOTS) if not asked[number, slot]}
        entropy = []
        for slot in asked[number].nonzero().flatten().tolist():
            has = [*range(sids.sizes[slot]), *([5] if slot >= 2 else [])]
            log_probs = logits_of(model, states[user, step], given, slot)[has].log_softmax(0)
            entropy.append(-log_probs[has.index(row[slot])])
        terms.append(torch.stack(entropy).mean())
    torch.testing.assert_close(model.loss(training), torch.stack(terms).mean(), rtol=1e-4, atol=1e-4)


def test_learns_what_slots_say_of_each_other_and_reloads():
    """Item i is followed by 2 i or 2 i + 1: the slots of the two must go together. A reload ranks alike."""
    codes = torch.stack([torch.arange(32) // 8, torch.arange(32) // 2 % 4, torch.arange(32) % 4], dim=1)
    sids = sid_table(codes, (4, 4, 4))
    start, coins = torch.arange(32).repeat(8)[:, None], torch.randint(2, (256, 6), generator=torch.manual_seed(0))
    walk = [start]
    for step in range(6):
        walk.append((2 * walk[-1] + coins[:, step : step + 1]) % 32)
    walk = torch.cat(walk, dim=1)
    length = torch.full((256,), 6)
    batch = SequenceBatch(user=torch.arange(256), history=walk[:, :-1], length=length, target=walk[:, 1:])
    model = make(sids).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    model.eval()
    last = SequenceBatch(user=batch.user, history=batch.history, length=length, target=walk[:, -1])
    rank = model.rank(last)
    assert (rank.above <= 1).float().mean() > 0.98
    again = make(sids)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.recommend(last, 30).items, model.recommend(last, 30).items)


def test_every_parameter_is_trained(training):
    model = make(table())
    model.loss(training).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
