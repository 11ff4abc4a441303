"""Stage `tokenize`: a tokenizer trained on one task's item embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import load_file

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.artifacts.item_vectors import Vectors, as_one_array, open_vectors
from adasid_exp.data.items import ItemDataModule
from adasid_exp.data.pieces import wants_bar
from adasid_exp.data.sequences import Histories
from adasid_exp.functional.ranks import from_first_rank
from adasid_exp.stages.base import Stage, TaskStage, plain
from adasid_exp.stages.behave import Behave
from adasid_exp.stages.building import build, trained_part
from adasid_exp.stages.embed import Embed
from adasid_exp.stages.fitting import save_weights, seed_everything, train, training_settings
from adasid_exp.stages.loading import load_task, streaming_settings
from adasid_exp.stages.prepare import Prepare
from adasid_exp.stages.progress import waiting
from adasid_exp.stages.ranks import first_rank
from adasid_exp.types import UserError

WEIGHTS = "model.safetensors"
BEHAVIOR = "behavior"


class Tokenize(TaskStage):
    """Item embeddings of one task -> trained tokenizer."""

    name = "tokenize"
    version = 1
    learner = "tokenizer"

    @property
    def label(self) -> str:
        return f"{self.cfg.data.name}-{self.cfg.tokenizer.name}-{self.task}"

    def settings(self) -> dict[str, Any]:
        return {
            "tokenizer": trained_part(self.cfg.tokenizer),
            "split": plain(self.cfg.splits[self.task]),
            **streaming_settings(self.cfg),
            "seed": self.cfg.seed,
            **training_settings(self.cfg),
        }

    def inputs(self) -> dict[str, Stage]:
        return item_inputs(self.cfg, self.task)

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        items = in_one_piece(item_embeddings(self.cfg, self.task, inputs), work)
        histories = task_histories(self.cfg, self.task, inputs)
        data = ItemDataModule(embeddings=items, batch_size=self.cfg.tokenizer.fit.batch_size, seed=self.cfg.seed)
        seed_everything(self.cfg.seed)
        model = tokenizer_model(self.cfg.tokenizer, items, histories)
        with waiting(f"{self.name} {self.label}: statistics", wanted=wants_bar(self.cfg.progress)):
            model.fit_statistics(data.items)
        module, trainer = train(self, self.cfg.tokenizer, model, data, work)
        if first_rank():
            save_weights(model, out / WEIGHTS)
        return {"slots": len(model.layout.sizes), "steps": trainer.global_step}


def modalities_of(cfg: DictConfig) -> list[str]:
    """The embeddings the tokenizer reads: those it names, else all content in the config's order and behavior."""
    return plain(cfg.tokenizer.modalities) or [*plain(cfg.modalities), BEHAVIOR]


def item_inputs(cfg: DictConfig, task: str) -> dict[str, Stage]:
    """What the tokenizer's item embeddings are made from; nothing it does not read.

    Raises:
        UserError: the tokenizer names a modality the config lacks.
    """
    inputs: dict[str, Stage] = {"dataset": Prepare(cfg)}
    for name in modalities_of(cfg):
        if name != BEHAVIOR and name not in cfg.modalities:
            known = ", ".join([*map(str, cfg.modalities), BEHAVIOR])
            raise UserError(f"tokenizer.modalities names {name!r}; this run has {known} (see conf/modalities)")
        inputs[name] = Behave(cfg, task) if name == BEHAVIOR else Embed(cfg, name)
    return inputs


def item_embeddings(cfg: DictConfig, task: str, inputs: Mapping[str, Path]) -> ItemEmbeddings:
    """Gathers the vectors of every modality the tokenizer reads and the training counts of a task."""
    features = {name: open_vectors(inputs[name]) for name in modalities_of(cfg)}
    return ItemEmbeddings(features=features, count=load_task(cfg, task, inputs["dataset"]).counts())


def in_one_piece(items: ItemEmbeddings, work: Path) -> ItemEmbeddings:
    """The same items, mapped: vectors in shards are written to ``work`` as one file, by one rank for all."""
    if first_rank():
        features = _joined(items, work)
    from_first_rank(torch.zeros(1))  # the others wait for the files
    return replace(items, features=features if first_rank() else _joined(items, work))


def _joined(items: ItemEmbeddings, work: Path) -> dict[str, Vectors]:
    return {
        name: as_one_array(table, work / f"items-{at}.npy") for at, (name, table) in enumerate(items.features.items())
    }


def task_histories(cfg: DictConfig, task: str, inputs: Mapping[str, Path]) -> Callable[[], Histories]:
    """How a tokenizer that asks for them gets the sequences of the task's training part."""
    return lambda: load_task(cfg, task, inputs["dataset"]).histories()


def tokenizer_model(node: DictConfig, items: ItemEmbeddings, histories: Callable[[], Histories]) -> Any:
    """The untrained tokenizer of a config node; ``histories`` is called if the node asks for them."""
    dims = {name: int(vectors.shape[1]) for name, vectors in items.features.items()}
    return build(node, always={"dims": dims}, histories=histories, counts=lambda: torch.from_numpy(items.count))


def trained_tokenizer(
    node: DictConfig, items: ItemEmbeddings, histories: Callable[[], Histories], artifact: Path
) -> Any:
    """The tokenizer with the weights of a `tokenize` artifact, ready to encode."""
    model = tokenizer_model(node, items, histories)
    model.load_state_dict(load_file(artifact / WEIGHTS))
    return model.eval()


def trained_with_items(cfg: DictConfig, task: str, inputs: Mapping[str, Path]) -> tuple[Any, ItemEmbeddings]:
    """`trained_tokenizer` and the catalogue it learnt on, from the inputs ``tokenizer`` and `item_inputs`."""
    items = item_embeddings(cfg, task, inputs)
    histories = task_histories(cfg, task, inputs)
    return trained_tokenizer(cfg.tokenizer, items, histories, inputs["tokenizer"]), items
