"""Every yaml in conf/ composes, spells its constructor's arguments, and a misspelt key is named."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import _locate
from omegaconf import DictConfig, OmegaConf

from adasid_exp.stages.locations import CONF

YAMLS = sorted(CONF.rglob("*.yaml"))
GIVEN_BY_STAGES = {
    "dims", "model", "total_steps", "items", "sids", "histories", "counts", "behavior", "users", "representation",
    "save_dir", "name", "version", "self", "args", "kwargs",
}  # fmt: skip
KEYS_FOR_STAGES = {"_target_", "_partial_", "_convert_", "_recursive_", "name", "inputs", "fit", "minimum_interactions"}
FOREIGN = "lightning."
"""Loggers and strategies of Lightning keep their own defaults; ours spell out every argument."""


def compose_with(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


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


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.relative_to(CONF).as_posix())
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
