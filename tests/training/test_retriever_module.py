"""The Lightning loop: what it logs, what it keeps, and that a resumed run equals an unbroken one."""

import lightning as L
import pytest
import torch

from adasid_exp.nn.losses.next_item import BinaryCrossEntropy
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.popularity import Popularity
from adasid_exp.retrievers.sasrec import SasRec
from adasid_exp.training.retriever import RetrieverModule
from adasid_exp.training.rng_state import RngState
from adasid_exp.types import SequenceBatch

ITEMS, USERS = 30, 48


class Sequences(L.LightningDataModule):
    """Users walk the items in order; three batches an epoch."""

    def __init__(self):
        super().__init__()
        self.walk = (torch.arange(USERS)[:, None] + torch.arange(8)) % ITEMS

    def batches(self, first, target):
        users = torch.arange(USERS).flip(0)  # not in the order of users
        return [
            SequenceBatch(
                user=part,
                history=self.walk[part, first : first + 5],
                length=torch.full((len(part),), 5),
                target=target[part],
            )
            for part in users.split(16)
        ]

    def train_dataloader(self):
        return Batches(self.batches(0, self.walk[:, 1:6]))

    def val_dataloader(self):
        return Batches(self.batches(1, self.walk[:, 6]))

    def test_dataloader(self):
        return Batches(self.batches(2, self.walk[:, 7]))


class Batches:
    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def module_of(model, total_steps=12):
    return RetrieverModule(
        model=model,
        total_steps=total_steps,
        learning_rate=1e-2,
        weight_decay=0.01,
        warmup_steps=2,
        floor=0.1,
        cutoffs=[1, 5, 10],
    )


def sasrec():
    torch.manual_seed(0)
    return SasRec(
        items=ITEMS,
        counts=torch.ones(ITEMS),
        encoder=CausalTransformer(dim=8, blocks=1, heads=1, hidden=8, steps=5, dropout=0.3, init_std=0.02),
        init_std=0.02,
        next_item=BinaryCrossEntropy(exponent=0.0),
    )


def trainer_of(tmp_path, epochs):
    return L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=[RngState()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )


def test_metrics_and_outcomes_by_hand(tmp_path):
    """Popularity falls with the index: item i has rank i + 1, and user u's test item is (u + 7) % 30."""
    module = module_of(Popularity(counts=torch.arange(ITEMS, 0, -1)))
    trainer = trainer_of(tmp_path, 1)
    values = trainer.test(module, datamodule=Sequences(), verbose=False)[0]
    target = (torch.arange(USERS) + 7) % ITEMS
    assert values["test/recall@5"] == pytest.approx((target < 5).float().mean().item())
    rank = target[target < 5].double() + 1
    assert values["test/ndcg@5"] == pytest.approx((1 / torch.log2(1 + rank)).sum().item() / USERS, abs=1e-6)
    rows = module.outcomes()
    assert torch.equal(rows["user"], torch.arange(USERS))
    assert torch.equal(rows["above"], target)
    assert rows["tied"].tolist() == rows["sid_tied"].tolist() == [1] * USERS
    again = trainer.test(module, datamodule=Sequences(), verbose=False)[0]
    assert again == values
    assert len(module.outcomes()["user"]) == USERS


def test_fixed_retriever_cannot_be_trained(tmp_path):
    module = module_of(Popularity(counts=torch.ones(ITEMS)))
    with pytest.raises(ValueError, match="Popularity has nothing to train"):
        module.training_step(Sequences().train_dataloader().batches[0], 0)


def test_training_reports_validation_and_learns(tmp_path):
    module, trainer = module_of(sasrec(), total_steps=90), trainer_of(tmp_path, 30)
    trainer.fit(module, datamodule=Sequences())
    assert trainer.callback_metrics["val/recall@10"] > 0.9
    assert {"val/ndcg@5", "val/sid_recall@10"} <= set(trainer.callback_metrics)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3, rel=0.01)  # the floor


def test_resumed_equals_unbroken(tmp_path):
    """Dropout and negatives draw from the global generator, whose state travels with the checkpoint."""
    unbroken = module_of(sasrec())
    torch.manual_seed(1)
    trainer_of(tmp_path, 4).fit(unbroken, datamodule=Sequences())
    first = module_of(sasrec())
    torch.manual_seed(1)
    trainer = trainer_of(tmp_path, 2)
    trainer.fit(first, datamodule=Sequences())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(99)
    resumed = module_of(sasrec())
    trainer_of(tmp_path, 4).fit(resumed, datamodule=Sequences(), ckpt_path=tmp_path / "half.ckpt")
    for (name, ours), theirs in zip(resumed.named_parameters(), unbroken.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
