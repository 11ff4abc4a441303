"""What is particular to DAS; what holds for every tokenizer is in tests/contracts."""

from functools import partial

import numpy as np
import polars as pl
import pytest
import torch

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.sequences import training_histories
from adasid_exp.data.splits import leave_one_out
from adasid_exp.nn.disentangled_cf import DisentangledCF
from adasid_exp.nn.interaction_alignment import BehaviorAlignment, DualAlignment
from adasid_exp.nn.interactions import Drawn, Interactions
from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.nn.residual_autoencoder import ResidualAutoencoder
from adasid_exp.tokenizers.das import Das
from adasid_exp.tokenizers.rq_vae import RqVae
from adasid_exp.training.optimizers import adamw
from adasid_exp.types import ItemBatch, UserError

ITEMS, GROUPS = 240, 8
BOOK = partial(
    GradientCodebook,
    spherical=False,
    commitment=0.25,
    usage_decay=0.5,
    revive_below=0.5,  # high, so that codes are revived in every epoch
    kmeans_iterations=10,
)
SHAPE = {"hidden": [24], "latent": 8, "length": 2, "size": 8, "codebook": BOOK, "fill_empty": False}
SIDE = partial(ResidualAutoencoder, hidden=[24], levels=2, size=8, codebook=BOOK)


def catalogue():
    """Items of few groups; half of the text speaks of other groups, louder, of which users know nothing."""
    generator = torch.Generator().manual_seed(0)
    group, rumor = torch.arange(ITEMS) % GROUPS, torch.randint(0, 12, (ITEMS,), generator=generator)
    own = torch.randn(GROUPS, 10, generator=generator)[group]
    loud = 2 * torch.randn(12, 12, generator=generator)[rumor]
    vectors = torch.cat([own, loud], 1) + 0.3 * torch.randn(ITEMS, 22, generator=generator)
    features = {"behavior": vectors[:, :6], "text": vectors[:, 6:]}
    return ItemBatch(index=torch.arange(ITEMS), features=features, count=torch.ones(ITEMS, dtype=torch.long))


def log(users=80):
    """Users who stay within one group; user 7 has no item."""
    generator = torch.Generator().manual_seed(1)
    length = torch.randint(2, 9, (users,), generator=generator)
    length[7] = 0
    jumps = torch.randint(0, ITEMS // GROUPS, (int(length.sum()),), generator=generator)
    items = (torch.arange(users) % GROUPS).repeat_interleave(length) + GROUPS * jumps
    return items, torch.cat([torch.zeros(1, dtype=torch.long), length.cumsum(0)])


def dual(alpha=1.0, beta=0.5):
    cf = partial(DisentangledCF, width=6, weight=alpha, parts_weight=0.1, orthogonality=0.01)
    return partial(DualAlignment, user_side=SIDE, cf=cf, pairs=64, temperature=0.07, weight=beta)


def light(beta=0.5):
    return partial(BehaviorAlignment, pairs=64, temperature=0.07, weight=beta)


def das(alignment, modalities=("text",)):
    torch.manual_seed(0)
    return Das(
        dims={"text": 16, "behavior": 6},
        histories=log(),
        counts=torch.ones(ITEMS),
        modalities=modalities,
        alignment=alignment,
        **SHAPE,
    )


def rq_vae():
    torch.manual_seed(0)
    return RqVae(dims={"text": 16}, modalities=["text"], **SHAPE)


def batch(items, step):
    rows = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(step))[:96]
    features = {name: values[rows] for name, values in items.features.items()}
    return ItemBatch(index=rows, features=features, count=items.count[rows])


def train(model, optimizer, steps, items, start=3):
    """The hooks in their order, by numbered steps; an epoch is three of them."""
    for step in steps:
        if step == start:
            model.start(items)
        optimizer.zero_grad()
        sum(model.losses(batch(items, step)).values()).backward()
        optimizer.step()
        model.after_step(step, 1000)
        if step % 3 == 0:
            model.end_epoch(items, step, 1000)


def trained(model, steps, start=3):
    items = catalogue()
    model.fit_statistics(items)
    train(model.train(), adamw(model, learning_rate=3e-3, weight_decay=0.01), range(1, steps + 1), items, start)
    return model


@pytest.mark.parametrize(
    ("alignment", "modalities"), [(dual(0.0, 0.0), ("text",)), (light(0.0), ("text", "behavior"))], ids=["das", "light"]
)
def test_without_weights_it_is_rq_vae_bit_for_bit(alignment, modalities):
    expected, ours = trained(rq_vae(), 10), trained(das(alignment, modalities), 10)
    assert any(bool(book.usage.std() > 0) for book in expected.autoencoders[0].quantizer.books())
    state = ours.autoencoders.state_dict()
    for name, value in expected.autoencoders.state_dict().items():
        assert torch.equal(state[name], value), name
    assert torch.equal(ours.eval().encode(catalogue()).codes, expected.eval().encode(catalogue()).codes)


def test_with_weights_it_is_not():
    expected = trained(rq_vae(), 4).autoencoders.state_dict()
    ours = trained(das(dual()), 4).autoencoders.state_dict()
    assert any(not torch.equal(ours[name], value) for name, value in expected.items())


@pytest.mark.parametrize(("alignment", "modalities"), [(dual(), ("text",)), (light(), ("text", "behavior"))])
def test_a_resume_goes_on_bit_for_bit(alignment, modalities):
    items, whole, half = catalogue(), trained(das(alignment, modalities), 10), das(alignment, modalities)
    half.fit_statistics(items)
    first = adamw(half.train(), learning_rate=3e-3, weight_decay=0.01)
    train(half, first, range(1, 6), items)
    torch.manual_seed(5)
    fresh = das(alignment, modalities)
    fresh.fit_statistics(items)
    fresh.load_state_dict(half.state_dict())
    second = adamw(fresh.train(), learning_rate=3e-3, weight_decay=0.01)
    second.load_state_dict(first.state_dict())
    train(fresh, second, range(6, 11), items)
    for name, value in whole.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name


def test_a_user_is_the_mean_text_of_her_items():
    # Independent reference in numpy: z-score of the means over the users who have items.
    model, items = das(dual()), catalogue()
    model.fit_statistics(items)
    text = items.features["text"].numpy()
    text = (text - text.mean(0)) / text.std(0)
    own = np.split(log()[0].numpy(), log()[1][1:-1].numpy())
    means = np.stack([text[rows].mean(0) for rows in own if len(rows)])
    expected = (means - means.mean(0)) / means.std(0)
    known = torch.tensor([len(rows) > 0 for rows in own])
    np.testing.assert_allclose(model.alignment.content[known].numpy(), expected, atol=1e-4)


def mirrored(alignment, histories):
    """The alignment of the log with users and items in each other's place, and their tables too."""
    user = torch.repeat_interleave(torch.arange(len(histories[1]) - 1), histories[1].diff())
    order = histories[0].argsort(stable=True)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), histories[0].bincount(minlength=ITEMS).cumsum(0)])
    other = dual()(histories=(user[order], offsets), items=80, dims={"text": 16}, latent=8)
    other.cf.interest, other.cf.property = alignment.cf.property, alignment.cf.interest
    other.interest, other.property = alignment.property, alignment.interest
    return other


def test_users_and_items_play_the_same_role():
    # Law: with everything swapped between users and items the contrasts have the same sum.
    torch.manual_seed(0)
    ours = dual()(histories=log(), items=ITEMS, dims={"text": 16}, latent=8)
    drawn = ours.interactions.draw(64)
    users, items = torch.randn(2, 128, 8)
    swapped = Drawn(
        user=drawn.item,
        item=drawn.user,
        other_user=drawn.other_item,
        other_item=drawn.other_user,
        negative=drawn.negative,
    )
    there = ours.contrast(ours.contrasts(drawn, users, items))
    back = mirrored(ours, log())
    torch.testing.assert_close(back.contrast(back.contrasts(swapped, items, users)), there)
    assert not torch.isclose(back.contrast(back.contrasts(swapped, users, items)), there)


def split_dataset(users=30, items=50):
    """Every user meets items in a row, so that each held-out pair of neighbors occurs once at most."""
    generator = np.random.default_rng(0)
    sequences = [generator.choice(items, size=6, replace=False) for _ in range(users)]
    ids = np.array([str(i) for i in range(items)])
    dataset = Dataset(
        user=np.repeat(np.arange(users, dtype=np.int32), 6),
        item=np.concatenate(sequences).astype(np.int32),
        timestamp=np.tile(np.arange(6), users),
        liked=np.ones(6 * users, dtype=np.int8),
        user_ids=np.array([str(u) for u in range(users)]),
        item_ids=ids,
        items=pl.DataFrame({"item_id": ids}),
        arrays={},
        skipped={},
        notes=(),
    )
    return dataset, leave_one_out(dataset)


def test_nothing_held_out_is_drawn():
    # Law: what is drawn, neighbors included, is an interaction of the training part; held-out ones are no part of it.
    dataset, split = split_dataset()
    pairs = set(zip(dataset.user.tolist(), dataset.item.tolist(), strict=True))
    visible = set(zip(dataset.user[split.train].tolist(), dataset.item[split.train].tolist(), strict=True))
    drawn = Interactions(histories=training_histories(dataset, split), items=50).draw(20_000)
    seen = set()
    for users, items in ((drawn.user, drawn.item), (drawn.user, drawn.other_item), (drawn.other_user, drawn.item)):
        seen |= set(zip(users.tolist(), items.tolist(), strict=True))
    assert seen == visible
    assert len(pairs - seen) == 60


@pytest.mark.parametrize(("alignment", "modalities"), [(dual(), ("text",)), (light(), ("text", "behavior"))])
def test_items_of_one_user_come_to_share_codes(alignment, modalities):
    # The loud groups rule the first code of text alone; users' groups take it over where the log is heard.
    same = torch.arange(ITEMS)[:, None] % GROUPS == torch.arange(ITEMS) % GROUPS

    def share(model):
        codes = trained(model, 120, start=100).eval().encode(catalogue()).codes[:, 0]
        equal = codes[:, None] == codes
        return (equal & same).sum() / equal.sum()

    assert share(das(alignment, modalities)) > share(rq_vae()) + 0.2


def test_sids_speak_of_content_alone():
    model = trained(das(light(), ("text", "behavior")), 4).eval()
    assert model.layout.modalities == ("text", "text")
    items = catalogue()
    codes = model.encode(items).codes
    items.features["behavior"].mul_(-3.0)
    assert torch.equal(model.encode(items).codes, codes)


def test_no_content_is_one_line():
    with pytest.raises(UserError, match="name an embedding besides behavior"):
        das(light(), ("behavior",))


def test_too_low_a_temperature_is_one_line():
    with pytest.raises(UserError, match=r"temperature=0\.001: it must be at least 0\.0125"):
        das(partial(dual(), temperature=0.001))
