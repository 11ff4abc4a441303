"""Telling trackers: which ones the configuration names, and what they hear of stages and commands.

Scalars of trainings go to every logger of Lightning's. A tracker that takes more (wandb, TensorBoard) also hears of
each artifact when it is finished: figures, pictures, lineage, cost. Without such a tracker none of this runs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class, instantiate
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from omegaconf import DictConfig

from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.store import Manifest, Store
from adasid_exp.reporting.media import Drawing, pictures, pixels
from adasid_exp.stages.boards import TensorBoards
from adasid_exp.stages.ranks import first_rank
from adasid_exp.stages.recording import About, Outcome, Recorder, Source
from adasid_exp.stages.wandb_runs import DISABLED, WandbRuns

log = logging.getLogger(__name__)

COST = ("seconds", "cpu_seconds", "peak_memory_mb")
SHORT = 2
"""Last parts of a dotted key that a run's name shows."""

_told: set[str] = set()
"""Runs this process has recorded."""

Tell = Callable[[Path, Mapping[str, Path]], None]


class Made(Protocol):
    """What trackers ask of a stage."""

    name: ClassVar[str]
    learner: ClassVar[str | None]
    cfg: Any

    @property
    def label(self) -> str: ...

    @property
    def signature(self) -> str: ...

    def settings(self) -> dict[str, Any]: ...

    def walk(self) -> Iterator[Any]: ...


def recorders(cfg: DictConfig) -> list[Recorder]:
    """The trackers that take more than scalars, with group and overrides filled in."""
    settle(cfg)
    return [found for node in nodes_of(cfg) if (found := recorder_of(node)) is not None]


def nodes_of(cfg: DictConfig) -> list[DictConfig]:
    """The loggers that are on."""
    return [node for node in cfg.logger.values() if node.get("mode") != DISABLED]


def recorder_of(node: DictConfig) -> Recorder | None:
    """The tracker of a node; None for a plain logger."""
    target = get_class(node._target_)
    if issubclass(target, WandbRuns):
        recorder: Recorder = instantiate(node)
        return recorder
    return TensorBoards(node=node) if issubclass(target, TensorBoardLogger) else None


def begin(stage: Made) -> None:
    """Opens the stage's runs in the process that trains it; `tracked` has done so where that is this one."""
    if first_rank():
        for recorder in recorders(stage.cfg):
            recorder.open(about_of(stage))


def training_loggers(cfg: DictConfig, about: About) -> list[Logger]:
    """A logger of each kind that the configuration names, for a training; all but the first rank's are deaf."""
    return [_training_logger(node, about) for node in nodes_of(cfg)]


def _training_logger(node: DictConfig, about: About) -> Logger:
    recorder = recorder_of(node)
    if recorder is not None:
        return recorder.logger(about)
    logger: Logger = instantiate(node, save_dir=str(about.logs), name=about.stage, version=about.version)
    return logger


@contextmanager
def tracked(stage: Made, *, apart: bool) -> Iterator[Tell]:
    """While a stage is made: its runs are open; what is yielded tells them of the finished artifact and its inputs.

    Args:
        stage: what is made.
        apart: it is made by other processes, which begin the runs.
    """
    tellers = recorders(stage.cfg)
    if not tellers:
        yield lambda folder, inputs: None
        return
    about = about_of(stage)
    failed = True
    try:
        if not apart:
            for teller in tellers:
                teller.open(about)
        yield lambda folder, inputs: _tell(tellers, about, outcome_of(stage, folder, inputs, anew=True))
        failed = False
    finally:
        for teller in tellers:
            teller.close(failed=failed)


def complete(stage: Made, store: Store) -> None:
    """Tells of what a finished stage rests on and was found, not made, so that its lineage has no gap.

    In a sweep the stage itself is told of again: the sweep's group holds every point.
    """
    tellers = recorders(stage.cfg)
    if not tellers:
        return
    for each in stage.walk():
        folder, about = store.find(each.name, each.signature), about_of(each)
        again = each.signature == stage.signature and in_sweep()
        new = [teller for teller in tellers if again or not teller.holds(about)]
        if folder is None or about.run_id in _told or not new:
            continue
        inputs = {role: store.find(up.name, up.signature) for role, up in each.upstream.items()}
        there = {role: path for role, path in inputs.items() if path is not None}
        _tell(new, about, outcome_of(each, folder, there, anew=False))
        for teller in new:
            teller.close(failed=False)


def tell_command(cfg: DictConfig, about: About, outcome: Outcome) -> None:
    """Tells every logger what a command found that makes no artifact; plain ones hear the figures."""
    settle(cfg)
    for node in nodes_of(cfg):
        teller = recorder_of(node)
        if teller is not None:
            _tell([teller], about, outcome)
            teller.close(failed=False)
        elif outcome.metrics:
            logger = _training_logger(node, about)
            logger.log_metrics(dict(outcome.metrics))
            logger.save()
            logger.finalize("success")


def _tell(tellers: Sequence[Recorder], about: About, outcome: Outcome) -> None:
    for teller in tellers:
        teller.record(about, outcome)
    _told.add(about.run_id)


def outcome_of(stage: Made, folder: Path, inputs: Mapping[str, Path], *, anew: bool) -> Outcome:
    """What an artifact says of itself; figures that its training logged only if it was not just trained."""
    output = source_of(folder)
    silent = stage.learner is None or not anew
    cost = {name: output.manifest.provenance.get(name) for name in COST}
    return Outcome(
        output=output,
        inputs=tuple({source.signature: source for source in map(source_of, inputs.values())}.values()),
        metrics=json.loads((folder / METRICS).read_text()) if silent and (folder / METRICS).exists() else {},
        pictures=drawable(lambda: pictures(folder)),
        cost={name: value for name, value in cost.items() if value is not None},
    )


def source_of(folder: Path) -> Source:
    """A finished artifact."""
    return Source(folder=folder, manifest=Manifest.load(folder))


def drawable(found: Callable[[], Mapping[str, Drawing]]) -> Mapping[str, Drawing]:
    """Functions that give pictures as pixels, each drawn once for all; none, and a line, without matplotlib."""
    if find_spec("matplotlib") is None:
        log.info("no pictures for the loggers: matplotlib is not installed; pip install 'adasid-exp[viz]'")
        return {}
    return {name: cache(partial(_drawn, draw)) for name, draw in found().items()}


def _drawn(draw: Drawing) -> Any:
    return pixels(draw())


# ---- names -----------------------------------------------------------------------------------------------------


def about_of(stage: Made) -> About:
    """What the run of a stage is called and shows as its configuration."""
    cfg = stage.cfg
    merged = config_of(stage)
    changed = {key: value for key, value in overrides_of(cfg).items() if key.split(".")[0].split("@")[-1] in merged}
    short = [f"{'.'.join(key.split('.')[-SHORT:])}={value}" for key, value in changed.items() if "." in key]
    return About(
        stage=stage.name,
        label=stage.label,
        signature=stage.signature,
        logs=Path(cfg.runs) / "logs",
        name=" ".join([stage.label, f"s{cfg.seed}", *short]),
        config={**merged, "stage": stage.name, "label": stage.label, "signature": stage.signature}
        | {"data": cfg.data.name, "override": changed},
    )


def config_of(stage: Made) -> dict[str, Any]:
    """Settings of the stage and of all it rests on; stages that occur several times stand under their labels."""
    walk = list(stage.walk())
    names = [each.name for each in walk]
    merged: dict[str, Any] = {"artifacts": {f"{each.name} {each.label}": each.signature for each in walk}}
    for each in walk:
        if names.count(each.name) > 1:
            merged.setdefault(each.name, {})[each.label] = each.settings()
        else:
            merged |= each.settings()
    return merged


def settle(cfg: DictConfig) -> None:
    """Fills in what trackers leave to the command: group and overrides. Other processes cannot see the command."""
    for node in cfg.logger.values():
        if "group" in node and node.group is None:
            node.group = group_of(cfg)
        if "overrides" in node and node.overrides is None:
            node.overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def group_as(cfg: DictConfig, group: str) -> list[str]:
    """Gives what this command makes a group, where the person named none; the overrides that do so elsewhere."""
    nodes = {key: node for key, node in cfg.logger.items() if "group" in node and node.group is None}
    for node in nodes.values():
        node.group = group
    return [f"logger.{key}.group={group}" for key in nodes]


def in_sweep() -> bool:
    """Whether this is one job of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def group_of(cfg: DictConfig) -> str:
    """What belongs together: the sweep, else data and method."""
    if in_sweep():
        return f"sweep {Path(HydraConfig.get().sweep.dir).name}"
    return f"{cfg.data.name}-{cfg.tokenizer.name}"


def overrides_of(cfg: DictConfig) -> dict[str, str]:
    """What the command line changed, by key."""
    lists = [node.overrides for node in cfg.logger.values() if node.get("overrides") is not None]
    pairs = [text.lstrip("+~").partition("=") for text in (lists[0] if lists else [])]
    return {key: value for key, _, value in pairs}
