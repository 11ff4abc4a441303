"""An epoch of SASRec with one sampled negative against pmixer's."""

import numpy as np
import polars as pl
import torch
from hydra.utils import instantiate
from references import PmixerSasRec, pmixer_batch
from shipped import ITEMS, config

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.sequences import SequenceDataModule
from adasid_exp.data.splits import Split
from adasid_exp.stages.behave import behavior_model
from conftest import AtLeast

USERS, STEPS, BATCH = 7_424, 20, 256
"""A third of Beauty's users; the mean length is Beauty's."""


def interactions():
    """Sequences of 5 to 21 Zipf-distributed items, so that every one fits into pmixer's single window."""
    random = np.random.default_rng(0)
    lengths = np.minimum(4 + random.geometric(0.2, USERS), STEPS + 1)
    user = np.repeat(np.arange(USERS, dtype=np.int32), lengths)
    item = np.minimum(random.zipf(1.2, len(user)) - 1, ITEMS * 100) % ITEMS
    names = np.arange(ITEMS).astype(str)
    return Dataset(
        user=user,
        item=item.astype(np.int32),
        timestamp=np.arange(len(user)),
        liked=np.full(len(user), -1, dtype=np.int8),
        user_ids=np.arange(USERS).astype(str),
        item_ids=names,
        items=pl.DataFrame({"item_id": names}),
        arrays={},
        skipped={},
        notes=(),
    )


def ours(dataset):
    """One epoch of the shipped pop75 model by its own loader, loss and optimiser."""
    torch.manual_seed(0)
    node = config("+behavior=sasrec_pop75", f"behavior.fit.batch_size={BATCH}").behavior
    nothing = np.zeros(0, dtype=np.int64)
    split = Split(train=np.ones(len(dataset.user), dtype=bool), validation=nothing, test=nothing, unused={})
    data = SequenceDataModule(dataset=dataset, split=split, batch_size=BATCH, history=STEPS, seed=0)
    model = behavior_model(node, dataset.counts).train()
    module = instantiate(node.fit.module, model=model, total_steps=10_000)
    schedule = module.configure_optimizers()
    optimizer, scheduler = schedule["optimizer"], schedule["lr_scheduler"]["scheduler"]
    loader = data.train_dataloader()

    def epoch():
        for batch in loader:
            loss = module.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()

    return epoch


def pmixer(dataset):
    """One epoch of pmixer's model on batches drawn beforehand: its sampler runs in processes of its own."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    sequences = np.split(dataset.item.astype(np.int64) + 1, dataset.offsets[1:-1])
    starts = range(0, USERS, BATCH)
    batches = [pmixer_batch(sequences[start : start + BATCH], ITEMS, STEPS, random) for start in starts]
    model = PmixerSasRec(items=ITEMS, dim=64, steps=STEPS, blocks=2, heads=1, dropout=0.2).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98))

    def epoch():
        for batch in batches:
            optimizer.zero_grad()
            model.loss(*batch).backward()
            optimizer.step()

    return epoch


def test_sasrec_epoch_against_pmixer(compare):
    dataset = interactions()
    compare(
        "SASRec epoch, one negative",
        AtLeast(goal=2.5),
        ours=ours(dataset),
        reference=pmixer(dataset),
        against="pmixer's SASRec without its sampler",
        note=f"{USERS} users, {len(dataset.user) - USERS} positions",
    )
