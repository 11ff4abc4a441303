"""Checkpoint files: whole or not there, marked with what they belong to, read without executing anything."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from adasid_exp.types import UserError

OWNER = "adasid_signature"
"""Key of a checkpoint that names the artifact it is a state of."""


class CheckpointFiles(CheckpointIO):
    """How the Trainer writes and reads checkpoints of one artifact.

    Args:
        signature: of the artifact that is being made.
    """

    def __init__(self, *, signature: str) -> None:
        self.signature = signature

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes beside ``path``, flushes, and renames: a reader meets the old file or the new one.

        Ctrl-C in the middle of it is Ctrl-C, whatever the half-written archive says when it is closed.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as stream:
            try:
                torch.save({**checkpoint, OWNER: self.signature}, stream)
            except RuntimeError as error:
                interruption = _interruption(error)
                if interruption is None:
                    raise
                raise interruption from None
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The checkpoint, on the CPU.

        Raises:
            UserError: the file is damaged, or belongs to another configuration.
        """
        checkpoint = load_safely(Path(path))
        owner = checkpoint.get(OWNER, self.signature)
        if owner != self.signature:
            raise UserError(
                f"{path} was written for another configuration ({owner}, this one is {self.signature}); "
                "delete it to start this training anew"
            )
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Deletes the file if it is there."""
        Path(path).unlink(missing_ok=True)


def _interruption(error: BaseException | None) -> BaseException | None:
    """The Ctrl-C or the like in whose wake ``error`` was raised."""
    while isinstance(error, Exception):
        error = error.__context__
    return error


def load_safely(path: Path) -> dict[str, Any]:
    """Tensors and plain data of a checkpoint, on the CPU; nothing in the file is executed.

    Raises:
        UserError: it cannot be read.
    """
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is no readable checkpoint ({reason}); delete it to train anew") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no checkpoint; delete it to start this training anew")
    return found
