"""How every stage trains: one Lightning Trainer, resumable, best weights kept, loggers from the config."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra.utils import instantiate
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from omegaconf import DictConfig
from safetensors.torch import save_file

from adasid_exp.data.pieces import wants_bar
from adasid_exp.functional.ranks import own_rank, ranks
from adasid_exp.stages.base import Stage, plain
from adasid_exp.stages.building import construct
from adasid_exp.stages.checkpoints import CheckpointFiles, load_safely
from adasid_exp.stages.preemption import NoSignals, SaveWhenTold
from adasid_exp.stages.progress import TrainingBar
from adasid_exp.stages.ranks import several
from adasid_exp.stages.recording import About
from adasid_exp.stages.tracking import begin, training_loggers
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

STREAM = 1_000_003
"""Sets the random numbers of ranks apart."""


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that, resumed after the decision to stop, stops again instead of training on."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


@dataclass(frozen=True, kw_only=True)
class Run:
    """Names and places of one training.

    Attributes:
        stage, label, signature: as in the artifact this training is part of.
        work: folder that survives a crash; holds the checkpoints.
        logs: folder for logger files.
    """

    stage: str
    label: str
    signature: str
    work: Path
    logs: Path

    @property
    def checkpoints(self) -> Path:
        return self.work / "checkpoints"

    @property
    def resume(self) -> Path:
        return self.checkpoints / "resume.ckpt"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.ckpt"


def run_of(stage: Stage, work: Path) -> Run:
    """Names and places of what a stage trains or measures."""
    return Run(
        stage=stage.name,
        label=stage.label,
        signature=stage.signature,
        work=work,
        logs=Path(stage.cfg.runs) / "logs",
    )


def train(stage: Stage, node: DictConfig, model: Any, data: Any, work: Path) -> tuple[L.LightningModule, L.Trainer]:
    """Trains ``model`` as its node's ``fit`` says and returns the module with the weights to keep.

    Args:
        stage: whose training this is.
        node: the model's config node; its ``fit`` holds module, epochs, monitor, patience, check_every, gradient_clip.
        model: what to train; closed-form models have 0 epochs.
        data: the LightningDataModule.
        work: the stage's work folder.
    """
    fit = plain(node.fit)
    run = run_of(stage, work)
    begin(stage)
    trainer = trainer_of(stage.cfg, fit, run)
    data.trainer = trainer  # the loader asks it for the number of ranks
    steps = -(-len(data.train_dataloader()) // trainer.accumulate_grad_batches)
    module = construct(fit["module"], model=model, total_steps=steps * fit["epochs"])
    if stage.cfg.trainer.compile:
        setattr(model, module.hot, torch.compile(getattr(model, module.hot), dynamic=True))
    if fit["epochs"]:
        if own_rank():  # dropout must not fall alike on the rows of all ranks
            torch.manual_seed(stage.cfg.seed + STREAM * own_rank())
        fit_module(module, data, trainer, run)
    return module, trainer


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Writes a model's state to a safetensors file."""
    save_file({key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}, path)


def outcomes_of(module: Any) -> dict[str, np.ndarray]:
    """What the last test kept of each row, as arrays."""
    return {key: value.cpu().numpy() for key, value in module.outcomes().items()}


def seed_everything(seed: int) -> None:
    """Seeds python, numpy and torch; called before a model is built."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def trainer_of(cfg: DictConfig, fit: Mapping[str, Any], run: Run) -> L.Trainer:
    """The Trainer of one run.

    Args:
        cfg: whole config; `trainer`, `logger`, `callbacks` and `progress` are read.
        fit: the `fit` node of the model being trained: epochs, monitor, patience, check_every, gradient_clip.
        run: names and places.
    """
    # Named, so that Lightning does not look for SLURM: a job of many tasks may run a training of one process.
    environment = TorchElasticEnvironment() if several(cfg.trainer) else LightningEnvironment()
    with _refusals():
        trainer = L.Trainer(
            **_hardware(cfg),
            plugins=[CheckpointFiles(signature=run.signature), environment],
            use_distributed_sampler=False,
            max_epochs=fit["epochs"],
            check_val_every_n_epoch=fit["check_every"],
            gradient_clip_val=fit["gradient_clip"],
            num_sanity_val_steps=0,
            logger=training_loggers(cfg, about(run)),
            callbacks=_callbacks(cfg, fit, run),
            enable_progress_bar=wants_bar(cfg.progress),
            enable_model_summary=False,
            enable_checkpointing=True,
            log_every_n_steps=1_000_000,  # modules hand their means to the logger once an epoch themselves
            default_root_dir=run.work,
        )
    trainer._signal_connector = NoSignals()  # type: ignore[assignment]
    return trainer


@contextmanager
def _refusals() -> Iterator[None]:
    """What Lightning will not have is the configuration's fault."""
    try:
        yield
    except (MisconfigurationException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"trainer: {reason} (trainer=cpu runs anywhere; adasid doctor says what is here)") from error


def fit_module(module: L.LightningModule, data: Any, trainer: L.Trainer, run: Run) -> None:
    """Trains, from the last checkpoint if there is one, and loads the best weights if any were kept."""
    resume = run.resume if run.resume.exists() else None
    if resume:
        log.info("resuming %s %s from %s", run.stage, run.label, resume)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except RuntimeError as error:
        if "Error(s) in loading state_dict" not in str(error):
            raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{resume} does not fit this configuration ({reason} ...); delete it to train anew") from error
    except SystemExit:
        # Lightning turns Ctrl-C into exit(1) without a word; the entry point has words for it.
        if trainer.interrupted:
            raise KeyboardInterrupt(saved_so_far(run, trainer)) from None
        raise
    trainer.strategy.barrier()  # the first rank has written
    if run.best.exists():
        module.load_state_dict(load_safely(run.best)["state_dict"])


def saved_so_far(run: Run, trainer: L.Trainer) -> str:
    """Where a training that was stopped would go on."""
    what = f"{run.stage} {run.label}"
    if not run.resume.exists():
        return f"no epoch of {what} was saved yet, it begins anew"
    epoch = load_safely(run.resume)["epoch"] + 1
    return f"epoch {epoch} of {trainer.max_epochs} of {what} is saved in {run.resume}"


def training_settings(cfg: DictConfig) -> dict[str, Any]:
    """What the trainer's node does to results, for `Stage.settings`: precision, and batches a step if several.

    How many ranks share a batch is not among it: rounding aside, it changes nothing.
    """
    settings = {"precision": cfg.trainer.precision}
    if cfg.trainer.accumulate_grad_batches > 1:
        settings["accumulate_grad_batches"] = cfg.trainer.accumulate_grad_batches
    return settings


def _hardware(cfg: DictConfig) -> dict[str, Any]:
    """The Trainer's arguments that the `trainer` node gives; the ranks that there are decide on devices."""
    node = {key: value for key, value in plain(cfg.trainer).items() if key != "compile"}
    if several(cfg.trainer):
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        node |= {"strategy": instantiate(cfg.trainer.strategy), "devices": here, "num_nodes": ranks() // here}
    return node


def about(run: Run) -> About:
    """As trackers know the run; one that is open already keeps its own name and configuration."""
    return About(stage=run.stage, label=run.label, signature=run.signature, logs=run.logs, name=run.label, config={})


def _callbacks(cfg: DictConfig, fit: Mapping[str, Any], run: Run) -> list[Callback]:
    """Resume point last, so that it holds the state the others reached in the same epoch."""
    callbacks: list[Callback] = [instantiate(node) for node in cfg.callbacks.values()]
    if wants_bar(cfg.progress):
        callbacks.append(TrainingBar(label=f"{run.stage} {run.label}", monitor=fit["monitor"]))
    if fit["monitor"]:
        callbacks += [
            ResumableEarlyStopping(monitor=fit["monitor"], mode="max", patience=fit["patience"]),
            _checkpoint(run, "best", monitor=fit["monitor"], mode="max", save_weights_only=True),
        ]
    callbacks.append(_checkpoint(run, "resume", every_n_epochs=fit["save_every"], save_on_train_epoch_end=True))
    callbacks.append(SaveWhenTold(path=run.resume))
    return callbacks


def _checkpoint(run: Run, filename: str, **how: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=run.checkpoints, filename=filename, save_top_k=1, enable_version_counter=False, **how
    )
