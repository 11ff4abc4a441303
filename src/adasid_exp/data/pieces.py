"""Pieces of a long job: each is a folder that appears whole, so what is there need not be made again."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from adasid_exp.data.engines import Engine

FACTS = "facts.json"
REUSED = 31 << 20
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Piece(ABC):
    """Work whose outcome is one folder.

    Attributes:
        folder: where the outcome goes.
        rows: how much work it is, for the progress bar.
    """

    folder: Path
    rows: int

    @abstractmethod
    def make(self, folder: Path) -> dict[str, Any]:
        """Writes the outcome into ``folder``, which is empty, and returns facts about it (plain data)."""

    def facts(self) -> dict[str, Any]:
        """What `make` returned, once the piece is there."""
        return facts_in(self.folder)


def facts_in(folder: Path) -> dict[str, Any]:
    """What the piece in a folder returned when it was made."""
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return facts


def wants_bar(progress: bool | str) -> bool:
    """Whether to draw progress bars: as told, or, by "auto", on a terminal only.

    The workers of a grid draw none: the grid has a bar of its own. Ranks are no such workers.
    """
    own = parent_process() is None or "LOCAL_WORLD_SIZE" in os.environ
    return own and sys.stderr.isatty() if progress == "auto" else bool(progress)


@cache
def reuse_memory() -> None:
    """Has glibc keep blocks of up to 31 MiB that are freed, instead of fetching cleared pages for every array.

    It takes blocks from its own heap up to the size of the largest one that was ever mapped and freed (mallopt(3),
    M_MMAP_THRESHOLD); by default an array of a few MiB costs a page fault every 4 KiB. Elsewhere this does nothing.
    """
    np.empty(REUSED, dtype=np.uint8)


def finish(piece: Piece) -> None:
    """Makes a piece in a folder of another name and renames that when all is written."""
    reuse_memory()
    unfinished = piece.folder.with_name(f".{piece.folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    facts = piece.make(unfinished)
    (unfinished / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    os.replace(unfinished, piece.folder)


def finish_all(engine: Engine, title: str, pieces: Sequence[Piece], *, bar: bool) -> None:
    """Makes the pieces that are not there yet, with a bar of rows, rows a second and the time left."""
    missing = [piece for piece in pieces if not piece.folder.is_dir()]
    for folder in {piece.folder.parent for piece in missing}:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*/"):
            shutil.rmtree(left)
    if len(missing) < len(pieces):
        log.info("%s: %d of %d parts were finished before", title, len(pieces) - len(missing), len(pieces))
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not bar) as progress:
        task = progress.add_task(title, total=sum(piece.rows for piece in missing))
        for piece in engine.map(finish, missing):
            progress.advance(task, piece.rows)


class _Speed(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} rows/s")
