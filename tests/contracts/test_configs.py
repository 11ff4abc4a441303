"""Every yaml in conf/ composes, spells its constructor's arguments, and a misspelt key is named."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import _locate, instantiate
from lightning import Callback
from omegaconf import DictConfig, OmegaConf

from adasid_exp.data.raw import Reader
from adasid_exp.data.sequences import Histories
from adasid_exp.encoders.base import Encoder
from adasid_exp.stages.base import plain, without
from adasid_exp.stages.building import build, construct
from adasid_exp.stages.locations import CONF
from adasid_exp.types import PAD, SidTable

YAMLS = sorted(CONF.rglob("*.yaml"))
GIVEN_BY_STAGES = {
    "dims", "model", "total_steps", "items", "sids", "histories", "counts", "behavior", "users", "representation",
    "save_dir", "name", "version", "self", "args", "kwargs",
}  # fmt: skip
KEYS_FOR_STAGES = {
    "_target_", "_partial_", "_convert_", "_recursive_", "defaults", "name", "inputs", "fit", "at_encoding",
    "minimum_interactions",
}  # fmt: skip
FOREIGN = "lightning."
"""Loggers and strategies of Lightning keep their own defaults; ours spell out every argument."""


def compose_with(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def choices_of(*overrides: str) -> dict[str, str]:
    """What Hydra chose in a composition: option by ``group`` or ``group@package``."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides), return_hydra_config=True)
    return {str(k): str(v) for k, v in cfg.hydra.runtime.choices.items() if not str(k).startswith("hydra")}


def walk() -> dict[Path, tuple[str, ...]]:
    """Overrides that bring in each yaml of the tree, found by following the groups that choices open up."""
    reached: dict[Path, tuple[str, ...]] = {}
    pending: list[tuple[str, ...]] = [("data=tables",)]  # the choice that has a folder, which some options name
    while pending:
        base = pending.pop()
        for key in choices_of(*base):
            group = key.split("@")[0]
            for path in sorted((CONF / group).glob("*.yaml")):
                if path not in reached:
                    reached[path] = (*base, f"{key}={path.stem}")
                    if "defaults" in OmegaConf.load(path):  # else it opens no group of its own
                        pending.append(reached[path])
    return reached


WALK = walk()


def top_level_groups() -> list[str]:
    defaults = OmegaConf.load(CONF / "config.yaml").defaults
    return [str(next(iter(entry))) for entry in defaults if entry != "_self_"]


def choices() -> list[str]:
    """``group=option`` for every option of every group that config.yaml chooses from."""
    return [f"{group}={path.stem}" for group in top_level_groups() for path in sorted((CONF / group).glob("*.yaml"))]


def nodes_with_target(node: Any) -> Iterator[DictConfig]:
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        for key in node:
            yield from nodes_with_target(node._get_node(key))


def test_the_walk_sees_the_whole_tree() -> None:
    assert len(YAMLS) >= 50  # a floor: a walk that finds little has lost its way
    assert set(YAMLS) - set(WALK) == {CONF / "config.yaml"}


@pytest.fixture(scope="module")
def sids() -> SidTable:
    return SidTable(
        codes=torch.tensor([[0, PAD], [1, 2], [1, 0]]),
        weights=torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, 2.0]]),
        sizes=(2, 3),
        modalities=("shared", "behavior"),
        ordered=False,
    )


@pytest.mark.parametrize("overrides", WALK.values(), ids=lambda overrides: overrides[-1])
def test_every_option_builds_what_it_names(overrides: tuple[str, ...], sids: SidTable) -> None:
    """Every model of a composition with that option is instantiated as the stages do it."""
    cfg = compose_with(*overrides)
    items = len(sids.codes)
    dims = {**dict.fromkeys(cfg.modalities, 6), "behavior": 8, "text": 6}
    facts = {
        "items": lambda: items,
        "counts": lambda: torch.tensor([5, 3, 1]),
        "sids": lambda: sids,
        "histories": lambda: Histories(items=torch.tensor([0, 1, 2, 0]), offsets=torch.tensor([0, 2, 4])),
    }
    tokenizer = build(cfg.tokenizer, always={"dims": dims}, **facts)
    assert len(tokenizer.layout.sizes) >= 1
    behavior = build(cfg.behavior, **facts)
    retriever = build(cfg.retriever, **facts, behavior=lambda: behavior)
    representation = build(cfg.representation, **facts)
    ranker = build(cfg.ranker, users=lambda: 4, representation=lambda: representation)
    for node, model in (
        (cfg.tokenizer, tokenizer),
        (cfg.behavior, behavior),
        (cfg.retriever, retriever),
        (cfg.ranker, ranker),
    ):
        module = construct(plain(node.fit.module), model=model, total_steps=10)
        assert module.model is model
    for node in cfg.callbacks.values():
        assert isinstance(instantiate(node), Callback)
    for node in cfg.modalities.values():
        assert node.encoder is None or isinstance(instantiate(node.encoder), Encoder)
    assert callable(instantiate(cfg.splits.retrieval))
    assert isinstance(instantiate(without(cfg.data, "name", "minimum_interactions")), Reader)


@pytest.mark.parametrize("choice", choices())
def test_every_option_composes_and_resolves(choice: str) -> None:
    group, option = choice.split("=")
    method = ["tokenizer=ada_sid"] if group == "ablation" else []
    cfg = compose_with(choice, *method)
    for name in top_level_groups():  # hydra's own node resolves only inside a run
        if name in cfg:
            OmegaConf.to_container(cfg[name], resolve=True)
    node = cfg.get(group)
    if isinstance(node, DictConfig) and "name" in node:
        assert node.name == option


@pytest.mark.parametrize(
    "path",
    [path for path in YAMLS if path.parent.name != "stage"],  # a stage takes the whole configuration
    ids=lambda path: path.relative_to(CONF).as_posix(),
)
def test_components_spell_out_exactly_their_constructors_arguments(path: Path) -> None:
    for node in nodes_with_target(OmegaConf.load(path)):
        target = OmegaConf.to_container(node, resolve=False)["_target_"]
        if target.startswith(FOREIGN):
            continue
        parameters = inspect.signature(_locate(target)).parameters
        written = {str(key) for key in node} - KEYS_FOR_STAGES
        extra = written - set(parameters)
        assert not extra, f"{path.name}: {target} takes no {sorted(extra)}"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("tokenizer.algin.alpha=3",), "algin"),
        (("tokenizer=ada_syd",), "ada_syd"),
        (("ablation=no_rooter",), "no_rooter"),
        (("sede=3",), "sede"),
    ],
)
def test_a_misspelt_override_is_named(overrides: tuple[str, ...], named: str) -> None:
    with pytest.raises(Exception, match=named):
        compose_with(*overrides)
