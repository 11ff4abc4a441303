"""The parallel head: its loss and scores written out slot by slot, PAD, and symmetry of the slots."""

import math

import pytest
import torch
import torch.nn.functional as F

from adasid_exp.nn.item_prior import BayesPrior, NoPrior
from adasid_exp.nn.slot_weights import ArtifactWeights, EqualWeights, MaskPad, PredictPad
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.reg4rec import ParallelReg4Rec
from adasid_exp.types import PAD, SequenceBatch, SidTable

ITEMS = 40


def table(seed=0, sizes=(5, 4, 5)):
    """Three slots, of which the last may be PAD; the last items repeat the first one's SID."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.stack([torch.randint(0, size, (ITEMS,), generator=generator) for size in sizes], dim=1)
    codes[::3, 2] = PAD
    codes[-5:] = codes[0]
    weights = torch.rand(codes.shape, generator=generator).add(0.1) * (codes != PAD)
    weights[:, :2] = 1
    return SidTable(codes=codes, weights=weights, sizes=sizes, modalities=("text", "text", "behavior"), ordered=False)


COUNTS = torch.arange(ITEMS) % 7


def make(sids, pad=None, sid_weights=None, dropout=0.0, weigh_scores=False, prior=None):
    torch.manual_seed(0)
    settings = {"dim": 16, "blocks": 2, "heads": 2, "hidden": 64, "steps": 6, "init_std": 0.1}
    return ParallelReg4Rec(
        sids=sids,
        encoder=CausalTransformer(**settings, dropout=dropout),
        hidden=16,
        temperature=0.07,
        init_std=0.1,
        sid_weights=sid_weights or EqualWeights(),
        pad=pad or PredictPad(share=0.1),
        weigh_scores=weigh_scores,
        counts=COUNTS,
        prior=prior or NoPrior(),
    ).eval()


@pytest.fixture
def training():
    generator = torch.Generator().manual_seed(1)
    history = torch.randint(0, ITEMS, (8, 6), generator=generator)
    length = torch.randint(1, 7, (8,), generator=generator)
    target = torch.randint(0, ITEMS, (8, 6), generator=generator)
    return SequenceBatch(user=torch.arange(8), history=history, length=length, target=target)


def held_out(batch):
    return SequenceBatch(user=batch.user, history=batch.history, length=batch.length, target=batch.target[:, 0])


def state_by_formula(model, sids, history):
    """LN(W concat_l Emb_l(c_l)) through the encoder: the concatenation written out, PAD a vector of zeros."""
    parts = []
    for slot, embedding in enumerate(model.tokens.embeddings.table):
        codes = sids.codes[history, slot]
        parts.append(torch.where((codes == PAD)[..., None], 0.0, embedding[codes.clamp(min=0)]))
    token = model.tokens.norm(torch.cat(parts, dim=-1) @ model.tokens.maps.flatten(0, 1))
    return model.encoder(token)


def slot_log_probs(model, sids, states, slot, pad_class):
    """softmax(cos(MLP_l(u), Emb_l) / tau) over the slot's own classes only."""
    dim = states.shape[-1]
    first = F.relu(F.linear(states, *(p.view(3, dim, -1)[slot].squeeze(-1) for p in model.heads.first.parameters())))
    words = first @ model.heads.second[slot]
    output = model.heads.output.table[slot]
    rows = list(range(sids.sizes[slot])) + ([len(output) - 1] if pad_class else [])
    cosine = F.cosine_similarity(words[..., None, :], output[rows], dim=-1)
    return (cosine / 0.07).log_softmax(-1)


def test_loss_by_formula(training):
    """Mean over positions of sum_l w_l CE_l / sum_l w_l, with the artifact's weights and PAD's share."""
    sids = table()
    weighing = ArtifactWeights(cap=4.0)
    model = make(sids, sid_weights=weighing)
    weights = PredictPad(share=0.1).target_weights(sids.codes, weighing(sids))
    states = state_by_formula(model, sids, training.history)
    terms = []
    for user in range(8):
        for step in range(training.length[user]):
            item = training.target[user, step]
            entropy = []
            for slot in range(3):
                log_probs = slot_log_probs(model, sids, states[user, step], slot, pad_class=slot == 2)
                entropy.append(-log_probs[sids.codes[item, slot]])  # PAD = -1 is the last class
            terms.append((torch.stack(entropy) * weights[item]).sum() / weights[item].sum())
    torch.testing.assert_close(model.loss(training), torch.stack(terms).mean(), rtol=1e-4, atol=1e-4)


def test_masked_pad_leaves_the_loss_to_the_slots_in_use(training):
    """Law: with PAD masked the loss is a number, and every gradient too."""
    model = make(table(), pad=MaskPad())
    loss = model.loss(training)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("masked", [False, True])
def test_ranking_by_formula(training, masked):
    """S(i) = sum_l log p_l(c_il), or its mean over the slots in use if PAD is masked."""
    sids, batch = table(), held_out(training)
    model = make(sids, pad=MaskPad() if masked else None)
    states = state_by_formula(model, sids, batch.history)
    last = states[torch.arange(8), batch.length - 1]
    slots = [slot_log_probs(model, sids, last, slot, slot == 2 and not masked) for slot in range(3)]
    parts = torch.stack([log_probs[:, sids.codes[:, slot]] for slot, log_probs in enumerate(slots)], dim=-1)
    used = (sids.codes != PAD).float() if masked else torch.ones(ITEMS, 3)
    scores = (parts * used).sum(-1) / (used.sum(-1) if masked else 1)
    top = model.recommend(batch, ITEMS)
    torch.testing.assert_close(top.scores, scores.sort(1, descending=True).values, rtol=1e-4, atol=1e-4)
    rank = model.rank(batch)
    own = scores.gather(1, batch.target[:, None])
    assert torch.equal(rank.above, (scores > own + 1e-4).sum(1))
    assert torch.equal(rank.tied, ((scores - own).abs() < 1e-4).sum(1))


def prior_by_hand(sids, codes, items, pad_share):
    """Loops over the formula: the SID's mean count in, each code's share of takers out, weighted as the loss is.

    A masked PAD (share 0) counts nowhere: the score is the mean over the other slots, so the item's part is one slot's.
    """
    mass = [int(count) + 1 for count in COUNTS]
    tuples = [tuple(row) for row in sids.codes.tolist()]
    weight = [[pad_share if code == PAD else 1.0 for code in own] for own in tuples]
    weight = [[each / sum(own) for each in own] for own in weight]
    found = []
    for own in tuples:
        holders = [mass[i] for i, other in enumerate(tuples) if other == own]
        factor = 1 / sum(code != PAD for code in own) if pad_share == 0 else 1
        value = items * math.log(sum(holders) / len(holders) / sum(mass)) * (1 / len(own) if pad_share == 0 else 1)
        for slot, code in enumerate(own):
            if pad_share == 0 and code == PAD:
                continue
            weighted = [m * w[slot] for m, w in zip(mass, weight, strict=True)]
            taken = sum(part for part, other in zip(weighted, tuples, strict=True) if other[slot] == code)
            value -= factor * codes * math.log(taken / sum(weighted))
        found.append(value)
    return torch.tensor(found)


@pytest.mark.parametrize("pad", [PredictPad(share=0.1), MaskPad()])
@pytest.mark.parametrize(("codes", "items"), [(1.0, 1.0), (0.75, 1.25)])
def test_a_prior_is_added_to_the_bare_score_of_every_item(training, codes, items, pad):
    sids, batch = table(), held_out(training)
    bare, model = make(sids, pad), make(sids, pad, prior=BayesPrior(codes=codes, items=items))
    before, after = bare.recommend(batch, ITEMS), model.recommend(batch, ITEMS)
    scores = torch.zeros(8, ITEMS).scatter(1, before.items, before.scores) + prior_by_hand(
        sids, codes, items, getattr(pad, "share", 0)
    )
    torch.testing.assert_close(torch.zeros(8, ITEMS).scatter(1, after.items, after.scores), scores)
    assert torch.equal(model.loss(training), bare.loss(training))
    rank, own = model.rank(batch), scores.gather(1, batch.target[:, None])
    assert torch.equal(rank.above, (scores > own + 1e-4).sum(1))
    shared = torch.tensor([(sids.codes == sids.codes[item]).all(1).sum() for item in batch.target])
    assert torch.equal(rank.tied, shared)  # the items of a SID tie, however their counts differ


def test_sid_level_counts_a_shared_sid_once(training):
    sids, batch = table(), held_out(training)
    rank = make(sids).rank(batch)
    assert (rank.sid_above <= rank.above).all()
    assert (rank.sid_tied == 1).all()
    shared = torch.tensor([(sids.codes == sids.codes[item]).all(1).sum() for item in batch.target])
    assert torch.equal(rank.tied, shared)


def test_permuting_the_slots_changes_no_score(training):
    sids, batch, order = table(sizes=(5, 5, 5)), held_out(training), [2, 0, 1]
    other = SidTable(
        codes=sids.codes[:, order],
        weights=sids.weights[:, order],
        sizes=sids.sizes,
        modalities=tuple(sids.modalities[slot] for slot in order),
        ordered=False,
    )
    model, permuted = make(sids), make(other)
    state = model.state_dict()
    for name in ("tokens.embeddings.table", "tokens.maps", "heads.second", "heads.output.table"):
        state[name] = state[name][order]
    for name in ("heads.first.weight", "heads.first.bias"):
        state[name] = state[name].unflatten(0, (3, -1))[order].flatten(0, 1)
    permuted.load_state_dict(state)
    torch.testing.assert_close(model.loss(training), permuted.loss(training))
    torch.testing.assert_close(model.recommend(batch, ITEMS).scores, permuted.recommend(batch, ITEMS).scores)


def test_batch_size_changes_no_rank(training):
    model, batch = make(table()), held_out(training)
    whole = model.rank(batch)
    fields = ("user", "history", "length", "target")
    for row in range(8):
        one = SequenceBatch(**{name: getattr(batch, name)[row : row + 1] for name in fields})
        assert model.rank(one).above.item() == whole.above[row].item()


def test_probabilities_of_a_slot_sum_to_one(training):
    model = make(table())
    log_probs = model.slot_scores(held_out(training))
    possible = model.catalogue.bias.squeeze(1) == 0
    assert possible.sum(1).tolist() == [5, 4, 6]  # PAD is a class of the third slot alone
    torch.testing.assert_close((log_probs.exp() * possible).sum(-1), torch.ones(8, 3))


def test_weighted_scores_use_the_mean_weights_of_a_sid(training):
    """Law: with equal weights and no PAD, weighing divides every score by the number of slots."""
    sids, batch = table(), held_out(training)
    full = SidTable(
        codes=sids.codes.clamp(min=0),
        weights=torch.ones_like(sids.weights),
        sizes=sids.sizes,
        modalities=sids.modalities,
        ordered=False,
    )
    plain = make(full).recommend(batch, ITEMS)
    weighed = make(full, weigh_scores=True).recommend(batch, ITEMS)
    torch.testing.assert_close(weighed.scores * 3, plain.scores, rtol=1e-5, atol=1e-5)


def test_learns_a_planted_order_and_reloads():
    """Item i is followed by i + 1; SIDs are unique, so the rank must reach 1. A reload ranks alike."""
    codes = torch.stack([torch.arange(30) // 6, torch.arange(30) % 6], dim=1)
    sids = SidTable(codes=codes, weights=torch.ones(30, 2), sizes=(6, 6), modalities=("text", "text"), ordered=False)
    whole = (torch.arange(60)[:, None] + torch.arange(7)) % 30
    length = torch.full((60,), 6)
    batch = SequenceBatch(user=torch.arange(60), history=whole[:, :-1], length=length, target=whole[:, 1:])
    model = make(sids, dropout=0.1).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
    last = SequenceBatch(user=batch.user, history=batch.history, length=length, target=whole[:, -1])
    assert (model.eval().rank(last).above == 0).float().mean() > 0.95
    again = make(sids)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.recommend(last, 30).items, model.recommend(last, 30).items)


def test_every_parameter_is_trained(training):
    model = make(table())
    model.loss(training).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
