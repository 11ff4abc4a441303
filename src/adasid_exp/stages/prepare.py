"""Stage `prepare`: raw data, read, checked and given dense ids."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from adasid_exp.stages.base import Stage, without


class Prepare(Stage):
    """Raw files or the toy generator -> `Dataset`; raw logs -> `PreparedLogs`."""

    name = "prepare"
    version = 1

    @property
    def label(self) -> str:
        return self.cfg.data.name

    @cached_property
    def reader(self) -> Any:
        """The reader the config names; it knows the files it would read."""
        return instantiate(without(self.cfg.data, "name", "minimum_interactions"))

    def settings(self) -> dict[str, Any]:
        return {
            "reader": self.reader.fingerprint(),
            "minimum_interactions": self.cfg.data.minimum_interactions,
        }

    def inputs(self) -> dict[str, Stage]:
        return {}

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        return self.reader.prepare(work=work, out=out, minimum_interactions=self.cfg.data.minimum_interactions)
