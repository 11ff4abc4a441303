"""What several stages read: a task's data and split, whatever form the data have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.artifacts.prepared_logs import INDEX, PreparedLogs
from adasid_exp.data.log_splits import LogRule
from adasid_exp.data.log_task import LogTask
from adasid_exp.data.task_data import TableTask, TaskData
from adasid_exp.types import UserError

STREAMING = ("buffer", "held_interactions")
"""Keys of `scale` that data which are streamed read, and other data do not have."""


def holds_logs(folder: Path) -> bool:
    """Whether a `prepare` artifact is of logs."""
    return (folder / INDEX).is_file()


def load_task(cfg: DictConfig, task: str, folder: Path) -> TaskData:
    """The data of a `prepare` artifact, split for ``task``.

    Raises:
        UserError: the split is for another form of data, or `scale` says nothing of streaming.
    """
    rule = instantiate(cfg.splits[task])
    if isinstance(rule, LogRule) != holds_logs(folder):
        fitting = "logs" if holds_logs(folder) else "default"
        raise UserError(f"splits.{task} does not fit data={cfg.data.name}: choose splits={fitting}")
    if not holds_logs(folder):
        dataset = Dataset.load(folder)
        return TableTask(dataset=dataset, split=rule(dataset), history=cfg.scale.history, seed=cfg.seed)
    missing = [name for name in STREAMING if name not in cfg.scale]
    if missing:
        raise UserError(f"data={cfg.data.name} is streamed and needs scale.{missing[0]}: choose scale=logs")
    logs = PreparedLogs.load(folder)
    streaming = {name: cfg.scale[name] for name in STREAMING}
    return LogTask(logs=logs, split=rule(logs), history=cfg.scale.history, seed=cfg.seed, **streaming)


def streaming_settings(cfg: DictConfig) -> dict[str, Any]:
    """For `Stage.settings`: what decides the order in which streamed data come; nothing for other data."""
    return {name: cfg.scale[name] for name in STREAMING if name in cfg.scale}
