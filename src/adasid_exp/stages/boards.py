"""TensorBoard: beside the curves of trainings, the figures and pictures of every artifact."""

from __future__ import annotations

from typing import Any

import polars as pl
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from adasid_exp.stages.recording import About, Outcome


class TensorBoards:
    """A folder of events for each artifact.

    Args:
        node: of Lightning's logger.
    """

    def __init__(self, *, node: DictConfig) -> None:
        self.node = node

    def open(self, about: About) -> Any:
        """Nothing: events are appended."""

    def logger(self, about: About) -> Logger:
        """Lightning's."""
        logger: Logger = instantiate(self.node, save_dir=str(about.logs), name=about.stage, version=about.version)
        return logger

    def record(self, about: About, outcome: Outcome) -> None:
        """Figures as scalars, pictures as images, tables as text."""
        logger: Any = self.logger(about)
        writer = logger.experiment
        for name, value in outcome.metrics.items():
            writer.add_scalar(name, value)
        for name, draw in outcome.pictures.items():
            writer.add_image(name, draw(), dataformats="HWC")
        for name, frame in outcome.tables.items():
            writer.add_text(name, _markdown(frame))
        logger.finalize("success")

    def close(self, *, failed: bool) -> None:
        """Nothing stays open."""

    def holds(self, about: About) -> bool:
        """Whether there are events already."""
        return any((about.logs / about.stage / about.version).glob("events.out.*"))


def _markdown(frame: pl.DataFrame) -> str:
    rows = [frame.columns, ["---"] * frame.width, *frame.rows()]
    return "\n".join("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in rows)
