"""Single files: that appear whole, that stand in two places."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def appear(path: Path, write: Callable[[Path], object]) -> None:
    """A file that appears whole: ``write`` gets the path of another, which is then renamed."""
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    write(unfinished)
    os.replace(unfinished, path)


def link(file: Path, target: Path) -> None:
    """The same file under a second name, a copy where the disk knows no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
