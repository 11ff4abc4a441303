"""SIGTERM: a scheduler wants the machine back. A training saves its state at the next step; the exit code tells.

SIGUSR2 says the same where a job runs under submitit, which puts the job back into the queue by its own handler.
"""

from __future__ import annotations

import atexit
import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from adasid_exp.functional.ranks import any_rank
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

RESUMABLE = 75
"""Exit code: stopped from outside, the same command goes on (EX_TEMPFAIL of sysexits.h)."""


SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""What a scheduler sends before it ends a job."""


class Preempted(BaseException):  # noqa: N818 - no error, as KeyboardInterrupt is none
    """A scheduler's signal, which the message names, arrived; what was finished and a training's state are kept."""


def heed_sigterm() -> None:
    """From now on SIGTERM raises `Preempted` in the main thread; SIGUSR2 too, unless submitit listens to it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)
        if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
            signal.signal(signal.SIGUSR2, _raise)
        atexit.unregister(_end_in_peace)
        atexit.register(_end_in_peace)


def _end_in_peace() -> None:
    """A process that ends has nothing to save: a second signal would only tear its last words."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Preempted(signal.Signals(number).name)


class SaveWhenTold(Checkpoint):
    """After a scheduler's signal to any rank, saves a resume point behind the step that runs and raises `Preempted`.

    Behind an epoch's last step the validation and the other callbacks come first: resuming does not repeat them.
    It is a `Checkpoint` so that Lightning calls it after the callbacks whose state it saves.

    Args:
        path: of the resume point.
    """

    def __init__(self, *, path: Path) -> None:
        self.path = path
        self.told: set[int] = set()
        self._former: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch and any_rank(bool(self.told)):
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if any_rank(bool(self.told)):
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hand_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._hand_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.told.add(number)

    def _stop(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        requeue = any_rank(signal.SIGUSR2 in self.told)
        name = "SIGUSR2" if requeue else "SIGTERM"
        log.info("%s: saved step %d in %s", name, trainer.global_step, self.path)
        submitit = self._former.get(signal.SIGUSR2)
        self._hand_back()
        if requeue and callable(submitit):  # now that nothing is lost, it may requeue the job and exit
            _requeue()
        raise Preempted(name)

    def _hand_back(self) -> None:
        while self._former:
            number, handler = self._former.popitem()
            signal.signal(number, handler or signal.SIG_DFL)


def _requeue() -> None:
    try:
        signal.raise_signal(signal.SIGUSR2)
    except Exception as refusal:
        raise UserError(
            f"{str(refusal).rstrip('.')}; the training is saved, the same command goes on from there "
            "(hydra.launcher.max_num_timeout=N requeues N times)"
        ) from refusal


class NoSignals:
    """In the place of Lightning's own signal handling, which lets SIGTERM pass in some states and in others waits
    inside the handler for the other ranks."""

    received_sigterm = False

    def register_signal_handlers(self) -> None:
        """Registers none."""

    def teardown(self) -> None:
        """Has nothing to restore."""
