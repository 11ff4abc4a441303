"""Stage `simulate_logs`: raw logs of any size, generated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from adasid_exp.data.log_simulator import LogSimulator
from adasid_exp.data.pieces import wants_bar
from adasid_exp.stages.base import Stage, plain


class SimulateLogs(Stage):
    """Nothing -> a folder of events, items and embeddings that ``data=logs data.root=FOLDER`` reads."""

    name = "simulate_logs"
    version = 1

    @property
    def label(self) -> str:
        return f"{self.cfg.stage.simulator.events}"

    @cached_property
    def simulator(self) -> LogSimulator:
        """The generator the config names."""
        return instantiate(plain(self.cfg.stage.simulator))

    def settings(self) -> dict[str, Any]:
        return self.simulator.fingerprint()

    def inputs(self) -> dict[str, Stage]:
        return {}

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        return self.simulator.write(work=work, out=out, bar=wants_bar(self.cfg.progress))
