"""Numbers of a configuration that no run survives, found before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adasid_exp.types import UserError

TASKS = ("retrieval", "ranking")
LEARNERS = ("behavior", "tokenizer", "retriever", "ranker")
WHOLE: Mapping[str, int] = {
    "seed": 0,
    "threads": 1,
    "shard_rows": 1,
    "scale.history": 1,
    "scale.length": 1,
    "scale.codebook_size": 1,
    **{f"{node}.fit.epochs": 0 for node in LEARNERS},
}
"""Keys of whole numbers and the least they may be."""

OF_TRAINING = {"batch_size": 1, "check_every": 1, "save_every": 1}
"""The same of a `fit` that has epochs."""


def check_numbers(cfg: DictConfig) -> None:
    """Looks at sizes, epochs, seeds and rates; keys that a configuration does not have are not looked at.

    Raises:
        UserError: one is no number, or too small.
    """
    if cfg.task not in TASKS:
        raise UserError(f"task={cfg.task}: there are {' and '.join(TASKS)}")
    for key, least in WHOLE.items():
        _check_whole(cfg, key, least)
    for node in LEARNERS:
        if any(_found(cfg, f"{node}.fit.epochs")):
            _check_training(cfg, f"{node}.fit")


def _check_training(cfg: DictConfig, fit: str) -> None:
    for name, least in OF_TRAINING.items():
        _check_whole(cfg, f"{fit}.{name}", least)
    key = f"{fit}.module.learning_rate"
    for value in _found(cfg, key):
        if isinstance(value, bool) or not isinstance(value, Real) or value <= 0:
            raise UserError(f"{key}={_spelt(value)}: a number above 0 is needed")


def _check_whole(cfg: DictConfig, key: str, least: int) -> None:
    for value in _found(cfg, key):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{key}={_spelt(value)}: a whole number of at least {least} is needed")


def _found(cfg: DictConfig, key: str) -> list[Any]:
    """The value, if the key is there."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return [node[name]] if OmegaConf.is_dict(node) and name in node else []


def _spelt(value: Any) -> str:
    return "null" if value is None else str(value)
