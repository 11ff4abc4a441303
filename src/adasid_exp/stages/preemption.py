"""SIGTERM: a scheduler wants the machine back. A training saves its state at the next step; the exit code tells."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from adasid_exp.functional.ranks import any_rank

log = logging.getLogger(__name__)

RESUMABLE = 75
"""Exit code: stopped from outside, the same command goes on (EX_TEMPFAIL of sysexits.h)."""


class Preempted(BaseException):  # noqa: N818 - no error, as KeyboardInterrupt is none
    """SIGTERM arrived; what was finished is kept, and so is the state of a training."""


def heed_sigterm() -> None:
    """From now on SIGTERM raises `Preempted` in the main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Preempted


class SaveWhenTold(Checkpoint):
    """After SIGTERM to any rank, saves a resume point behind the step that runs, then raises `Preempted` on all.

    Behind an epoch's last step the validation and the other callbacks come first: resuming does not repeat them.
    It is a `Checkpoint` so that Lightning calls it after the callbacks whose state it saves.

    Args:
        path: of the resume point.
    """

    def __init__(self, *, path: Path) -> None:
        self.path = path
        self.told = False
        self._former: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGTERM, self._note)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch and any_rank(self.told):
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if any_rank(self.told):
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hand_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._hand_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.told = True

    def _stop(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        log.info("SIGTERM: saved step %d in %s", trainer.global_step, self.path)
        raise Preempted

    def _hand_back(self) -> None:
        if self._former is not None:
            signal.signal(signal.SIGTERM, self._former)
            self._former = None


class NoSignals:
    """In the place of Lightning's own signal handling, which lets SIGTERM pass in some states and in others waits
    inside the handler for the other ranks."""

    received_sigterm = False

    def register_signal_handlers(self) -> None:
        """Registers none."""

    def teardown(self) -> None:
        """Has nothing to restore."""
