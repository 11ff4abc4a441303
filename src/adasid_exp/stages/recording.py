"""What trackers are told of an artifact, whichever they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from lightning.pytorch.loggers import Logger

from adasid_exp.artifacts.store import Manifest


@dataclass(frozen=True, kw_only=True)
class About:
    """What a run is about.

    Attributes:
        stage, label, signature: of the artifact; a command has its own name, and a signature or none.
        logs: folder that loggers write into.
        name: of the run, for people.
        config: what the artifact rests on, and what was asked for.
    """

    stage: str
    label: str
    signature: str
    logs: Path
    name: str
    config: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """The same for the same artifact, so that a resumed training goes on with its run."""
        return re.sub(r"[^\w.-]", "_", f"{self.stage}-{self.signature or self.label}")[:128]

    @property
    def version(self) -> str:
        """Folder of its log files."""
        return f"{self.label}-{self.signature}" if self.signature else self.label


@dataclass(frozen=True, kw_only=True)
class Source:
    """A finished artifact: its folder and what it says of itself."""

    folder: Path
    manifest: Manifest

    @property
    def signature(self) -> str:
        return self.manifest.signature


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What there is to tell of finished work.

    Attributes:
        output: the artifact; None for a command, which makes none.
        inputs: artifacts it was made from.
        metrics: figures that were not logged while it was made.
        pictures: functions that give an RGB image, uint8 ``[height, width, 3]``, by name.
        tables: by name.
        cost: seconds, memory.
    """

    output: Source | None
    inputs: tuple[Source, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


class Recorder(Protocol):
    """A tracker that takes more than a training's scalars."""

    def open(self, about: About) -> Any:
        """Begins the run."""

    def logger(self, about: About) -> Logger:
        """Its logger for a training."""

    def record(self, about: About, outcome: Outcome) -> None:
        """Tells the outcome."""

    def close(self, *, failed: bool) -> None:
        """Ends the run."""

    def holds(self, about: About) -> bool:
        """Whether the run was begun before."""
