"""The ranker's loop: what it logs, keeps and penalizes, and that a resumed run is the same run."""

import copy
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch
from lightning import Trainer
from sklearn.metrics import log_loss, roc_auc_score
from torch.nn import functional as F

from adasid_exp.nn.gate import GatedMlp
from adasid_exp.nn.pooling import MeanPooling
from adasid_exp.nn.representations.item_id import ItemId
from adasid_exp.rankers.ppnet import PPNet
from adasid_exp.training.ranker import RankerModule, parameter_groups
from adasid_exp.training.rng_state import RngState
from adasid_exp.types import ImpressionBatch

USERS, ITEMS, ROWS, STEPS = 6, 8, 96, 6


def table(seed):
    generator = torch.Generator().manual_seed(seed)
    item = torch.randint(0, ITEMS, (ROWS,), generator=generator)
    return ImpressionBatch(
        user=torch.randint(0, USERS, (ROWS,), generator=generator),
        item=item,
        history=torch.randint(0, ITEMS, (ROWS, 3), generator=generator),
        length=torch.randint(0, 4, (ROWS,), generator=generator),
        label=(torch.rand(ROWS, generator=generator) < 0.2 + 0.6 * (item % 2)).float(),
    )


def part(batch, rows):
    return ImpressionBatch(**{f.name: getattr(batch, f.name)[rows] for f in fields(batch)})


class Batches:
    """The simplest loader: the same cut of a table in the same order every epoch."""

    def __init__(self, batch):
        self.parts = [part(batch, rows) for rows in torch.arange(ROWS).split(ROWS // STEPS)]

    def __len__(self):
        return STEPS

    def __iter__(self):
        return iter(self.parts)


def module(dropout=0.3, embedding_l2=1e-3, epochs=4):
    torch.manual_seed(0)
    model = PPNet(
        users=USERS,
        representation=ItemId(items=ITEMS, dim=4, prior_dim=2),
        pooling=MeanPooling,
        tower=partial(GatedMlp, hidden=[8, 4], gate_hidden=3, scale=2.0, dropout=dropout),
        feature_dim=3,
        prior_dim=2,
        length_buckets=[0, 1],
    )
    return RankerModule(
        model=model,
        total_steps=STEPS * epochs,
        learning_rate=0.02,
        embedding_l2=embedding_l2,
        warmup_steps=2,
        floor=0.1,
    )


def trainer(folder, epochs, **how):
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[RngState()],
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **how,
    )


def test_logged_figures_and_kept_rows_are_those_of_the_model(tmp_path):
    one, held_out = module(), table(1)
    loop = trainer(tmp_path, 4)
    loop.fit(one, Batches(table(0)), Batches(held_out))
    assert {"val/auc", "val/gauc", "val/logloss", "val/users_kept"} <= set(loop.callback_metrics)
    figures = loop.test(one, Batches(held_out), verbose=False)[0]
    one.model.eval()
    with torch.no_grad():
        logit = one.model(held_out)
    rows = one.outcomes()
    torch.testing.assert_close(rows["score"], logit)
    assert torch.equal(rows["item"], held_out.item)
    assert torch.equal(rows["user"], held_out.user)
    assert torch.equal(rows["label"].float(), held_out.label)
    label, score = held_out.label.numpy(), logit.double().numpy()
    assert figures["test/auc"] == pytest.approx(roc_auc_score(label, score), abs=1e-6)
    assert figures["test/auc"] > 0.6  # odd items are liked: it has learnt something
    assert figures["test/logloss"] == pytest.approx(log_loss(label, 1 / (1 + np.exp(-score))), abs=1e-6)


def test_resumed_training_is_bit_for_bit_the_unbroken_one(tmp_path):
    unbroken = module()
    trainer(tmp_path, 4).fit(unbroken, Batches(table(0)), Batches(table(1)))
    half = trainer(tmp_path, 2)
    half.fit(module(), Batches(table(0)), Batches(table(1)))
    half.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(99)  # another process has other random states
    resumed = module()
    resumed.model.user.weight.data.zero_()
    trainer(tmp_path, 4).fit(resumed, Batches(table(0)), Batches(table(1)), ckpt_path=tmp_path / "half.ckpt")
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_weight_decay_is_the_gradient_of_the_penalty_on_tables_alone():
    one = module(dropout=0.0)
    plain, decayed, batch = copy.deepcopy(one.model), one.model, table(0)
    first = torch.optim.Adam(plain.parameters(), lr=0.02)
    second = torch.optim.Adam(parameter_groups(decayed, 0.1), lr=0.02)
    tables = [m.weight for m in plain.modules() if isinstance(m, torch.nn.Embedding)]
    for _ in range(3):
        loss = F.binary_cross_entropy_with_logits(plain(batch), batch.label)
        loss = loss + sum(0.05 * weight.square().sum() for weight in tables)
        first.zero_grad(), loss.backward(), first.step()
        second.zero_grad()
        F.binary_cross_entropy_with_logits(decayed(batch), batch.label).backward()
        second.step()
    for name, value in plain.named_parameters():
        torch.testing.assert_close(value, dict(decayed.named_parameters())[name], msg=name, atol=1e-5, rtol=1e-3)


def test_every_parameter_is_in_exactly_one_group():
    model = module().model
    grouped = [id(p) for group in parameter_groups(model, 0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
