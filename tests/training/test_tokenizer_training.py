"""Training of tokenizers by Lightning: hooks, logs, exact resume."""

import csv
from functools import partial

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from adasid_exp.data.items import ItemTable
from adasid_exp.data.loader import Shuffled, TableDataModule, TableLoader
from adasid_exp.nn.quantizers.ema import EmaCodebook
from adasid_exp.nn.quantizers.gradient import GradientCodebook
from adasid_exp.tokenizers.rq_vae import RqVae
from adasid_exp.training.rng_state import RngState
from adasid_exp.training.tokenizer import TokenizerModule
from adasid_exp.types import ItemBatch

STEPS = 4  # an epoch: 256 items in batches of 64
SHARED = {
    "spherical": False,
    "commitment": 0.25,
    "usage_decay": 0.7,
    "revive_below": 0.3,
    "kmeans_iterations": 5,
}
BOOKS = {"gradient": partial(GradientCodebook, **SHARED), "ema": partial(EmaCodebook, **SHARED, decay=0.9)}


class Catalogue(TableDataModule):
    """256 clustered items."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        centers = torch.randn(16, 12, generator=generator)
        text = centers[torch.arange(256) % 16] + 0.2 * torch.randn(256, 12, generator=generator)
        self.items = ItemBatch(
            index=torch.arange(256), features={"text": text}, count=torch.ones(256, dtype=torch.long)
        )

    def train_dataloader(self):
        order = Shuffled(seed=0)
        return TableLoader(table=ItemTable(items=self.items), order=order, batch_size=64, place=self.place)


def module(epochs, book="gradient", bypass_steps=2, model_class=RqVae):
    torch.manual_seed(0)
    model = model_class(
        dims={"text": 12},
        modalities=["text"],
        hidden=[16],
        latent=8,
        length=2,
        size=16,
        codebook=BOOKS[book],
        fill_empty=False,
    )
    model.fit_statistics(Catalogue().items)
    return TokenizerModule(
        model=model,
        total_steps=STEPS * epochs,
        learning_rate=2e-2,
        weight_decay=1e-4,
        warmup_steps=2,
        floor=0.01,
        bypass_steps=bypass_steps,
    )


def fit(part, epochs, folder, resume=None, checkpoint=None):
    checkpoint = checkpoint or ModelCheckpoint(dirpath=folder, save_last=True, save_top_k=0)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=CSVLogger(folder, name="log", version=int(resume is not None)),
        callbacks=[checkpoint, RngState()],
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    trainer.fit(part, datamodule=Catalogue(), ckpt_path=resume)
    return part


def test_training_learns_and_reports(tmp_path):
    trained = fit(module(10), 10, tmp_path)
    rows = list(csv.DictReader((tmp_path / "log/version_0/metrics.csv").read_text().splitlines()))
    totals = [float(row["train/total"]) for row in rows if row["train/total"]]
    assert len(totals) == 10
    assert totals[-1] < 0.7 * totals[0]
    final = next(row for row in rows if row["final/recon"])
    items = Catalogue().items
    expected = trained.model.eval().reconstruct(items)["text"] - trained.model.targets(items)["text"]
    assert float(final["final/recon_text"]) == pytest.approx(expected.square().mean().item(), rel=1e-4)
    assert 0 < float(final["final/entropy"]) <= torch.tensor(16.0).log().item()


@pytest.mark.parametrize("book", BOOKS)
def test_resume_is_exact(tmp_path, book):
    # Law: three epochs, a stop, three epochs equal six epochs bit for bit, with revival and k-means start.
    whole = fit(module(6, book), 6, tmp_path / "whole")
    fit(module(6, book), 3, tmp_path / "half")
    resumed = fit(module(6, book), 6, tmp_path / "half", resume=tmp_path / "half" / "last.ckpt")
    assert whole.global_step == resumed.global_step == 6 * STEPS
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class Counter(RqVae):
    """RQ-VAE with a controller: state that moves after every step."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.register_buffer("steps", torch.tensor(0))

    def after_step(self, step, total_steps):
        self.steps += step


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_resume_within_an_epoch_is_exact(tmp_path):
    # Law as above, from a checkpoint written after step 10, in the middle of the third epoch.
    def saving(folder):
        return ModelCheckpoint(dirpath=tmp_path / folder, every_n_train_steps=10, save_top_k=-1, filename="{step}")

    whole = fit(module(4, model_class=Counter), 4, tmp_path, checkpoint=saving("whole"))
    middle = tmp_path / "whole" / "step=10.ckpt"
    resumed = fit(module(4, model_class=Counter), 4, tmp_path, resume=middle, checkpoint=saving("resumed"))
    assert whole.model.steps.item() == sum(range(1, 17))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class Recorder(RqVae):
    """RQ-VAE that notes when its hooks are called."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.calls = []

    def start(self, items):
        super().start(items)
        self.calls.append(("start", items.index.numel()))

    def after_step(self, step, total_steps):
        self.calls.append(("step", step))

    def end_epoch(self, items, step, total_steps):
        super().end_epoch(items, step, total_steps)
        self.calls.append(("epoch", step))

    def finalize(self, items):
        super().finalize(items)
        self.calls.append(("finalize", items.index.numel()))


def test_hooks_come_in_order(tmp_path):
    # 5 epochs of 4 steps: the bypass of 100 steps is cut to a tenth, 2 steps.
    calls = fit(module(5, bypass_steps=100, model_class=Recorder), 5, tmp_path).model.calls
    assert calls[:4] == [("step", 1), ("step", 2), ("start", 256), ("step", 3)]
    assert [call for call in calls if call[0] == "step"] == [("step", k) for k in range(1, 21)]
    assert calls[-2:] == [("epoch", 20), ("finalize", 256)]
    assert sum(call[0] == "epoch" for call in calls) == 5


def test_a_resumed_model_does_not_start_again(tmp_path):
    fit(module(4), 2, tmp_path)
    resumed = fit(module(4, model_class=Recorder), 4, tmp_path, resume=tmp_path / "last.ckpt")
    assert "start" not in [name for name, _ in resumed.model.calls]


def test_revival_stops_in_the_last_tenth():
    model = module(10).model
    items = Catalogue().items
    model.start(items)
    books = model.autoencoders[0].quantizer.books()
    for book in books:
        book.usage[0, 0] = 0.0
    before = books[0].words.clone()
    model.end_epoch(items, 36, 40)
    assert torch.equal(before, books[0].words)
    model.end_epoch(items, 35, 40)
    assert not torch.equal(before, books[0].words)
