"""What Lightning costs a step with every feature of the project on, over a bare loop doing the same steps."""

import time
import warnings
from statistics import median

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from shipped import config, histories, items
from torch.utils.data import DataLoader, TensorDataset

from adasid_exp.data.items import ItemDataModule
from adasid_exp.stages.fitting import Run, fit_module, trainer_of
from adasid_exp.stages.tokenize import tokenizer_model
from conftest import AtLeast, AtMost

EPOCHS, ROUNDS = 25, 5
STEPS = 12 * EPOCHS
SMALL = (
    "tokenizer.modalities=[behavior]",
    "tokenizer.hidden=[32]",
    "tokenizer.latent=8",
    "tokenizer.length=1",
    "tokenizer.size=16",
)
"""A step of about two milliseconds: beside a large one the overhead would drown in noise."""


def parts():
    """Configuration, model in its module, and data of a small RQ-VAE."""
    torch.manual_seed(0)
    cfg = config("+tokenizer=rq_vae", "+trainer=cpu", "+logger=csv", "+callbacks=default", "+progress=false", *SMALL)
    data = ItemDataModule(embeddings=items(), batch_size=1024, seed=0)
    model = tokenizer_model(cfg.tokenizer, items(), histories)
    model.fit_statistics(data.items)
    model.start(data.items)
    return cfg, instantiate(cfg.tokenizer.fit.module, model=model, total_steps=STEPS), data


def bare_loop():
    """The same steps by hand; seconds of CPU."""
    _, module, data = parts()
    schedule = module.configure_optimizers()
    optimizer, scheduler = schedule["optimizer"], schedule["lr_scheduler"]["scheduler"]
    parameters, loader = list(module.parameters()), data.train_dataloader()
    module.train()
    start, step = time.process_time(), 0
    for _ in range(EPOCHS):
        for batch in loader:
            loss = torch.stack(list(module.model.losses(batch).values())).sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            scheduler.step()
            step += 1
            module.model.after_step(step, STEPS)
        module.model.end_epoch(data.items, step, STEPS)
    return time.process_time() - start


def ours(folder):
    """The project's own trainer, checkpoints, logger and callbacks; seconds of CPU."""
    cfg, module, data = parts()
    fit = OmegaConf.to_container(cfg.tokenizer.fit, resolve=True) | {"epochs": EPOCHS}
    run = Run(stage="tokenize", label="bench", signature="0", work=folder / "work", logs=folder / "logs")
    trainer = trainer_of(cfg, fit, run)
    start = time.process_time()
    fit_module(module, data, trainer, run)
    return time.process_time() - start


class Template(L.LightningModule):
    """The usual template around the same model: TensorDataset, ``self.log`` of each term at each step."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def configure_optimizers(self):
        return self.module.configure_optimizers()

    def training_step(self, batch, batch_idx):
        index, values, count = batch
        items = type(self.trainer.datamodule_items)(index=index, features={"behavior": values}, count=count)
        losses = self.module.model.losses(items)
        for name, value in losses.items():
            self.log(f"train/{name}", value, on_step=True, on_epoch=True, prog_bar=True)
        total = torch.stack(list(losses.values())).sum()
        self.log("train/loss", total, on_step=True, on_epoch=True, prog_bar=True)
        return total


def template(folder):
    """The usual template for a fifth of the epochs; seconds of CPU that all of them would take."""
    _, module, data = parts()
    table = data.items
    dataset = TensorDataset(table.index, table.features["behavior"], table.count)
    loader = DataLoader(dataset, batch_size=1024, shuffle=True)
    trainer = L.Trainer(
        max_epochs=EPOCHS // 5,
        accelerator="cpu",
        gradient_clip_val=1.0,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.datamodule_items = table
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Template(module), loader)
    return (time.process_time() - start) * 5


def test_lightning_over_a_bare_loop(compare, tmp_path):
    runs = [(bare_loop(), ours(tmp_path / str(number)), template(tmp_path)) for number in range(ROUNDS)]
    compare.benchmark.pedantic(bare_loop, rounds=1)
    bare = median(run[0] for run in runs) / STEPS
    project = median(run[1] - run[0] for run in runs) / STEPS
    usual = median(run[2] - run[0] for run in runs) / STEPS
    note = f"bare step {bare * 1e3:.2f} ms"
    compare.record(
        "Lightning's overhead a step",
        AtMost(goal=1.0),
        ours=project,
        reference=1e-3,
        against="one millisecond",
        note=note,
        held=False,  # milliseconds are the machine's, busy or not: the ratio below is held
    )
    compare.record(
        "Lightning's overhead a step",
        AtLeast(goal=8.0),
        ours=max(project, 1e-5),
        reference=usual,
        against="the usual template (TensorDataset, self.log)",
        note=note,
    )
