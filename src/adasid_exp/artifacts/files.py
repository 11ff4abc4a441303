"""Single files: that appear whole, that stand in two places, that are mapped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adasid_exp.types import UserError


def appear(path: Path, write: Callable[[Path], object]) -> None:
    """A file that appears whole: ``write`` gets the path of another, which is then renamed."""
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    write(unfinished)
    os.replace(unfinished, path)


def folder_at(path: Path, key: str) -> Path:
    """A folder that is there and may be written to.

    Raises:
        UserError: it cannot be made, or is another's; ``key`` is the option that named it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{key}: cannot write to {path} ({error}); name a folder you own") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"{key}: {path} may not be written to; name a folder you own")
    return path


def link(file: Path, target: Path) -> None:
    """The same file under a second name, a copy where the disk knows no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def mapped(file: Path) -> np.ndarray:
    """The array of a ``.npy`` file, read where it is looked at; plain, since a memmap's slices cost more."""
    return np.asarray(np.load(file, mmap_mode="r"))
