"""What a training does when a scheduler's signal arrives, with and without submitit's own handler."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adasid_exp.stages.preemption import SIGNALS, Preempted, SaveWhenTold, heed_sigterm
from adasid_exp.types import UserError


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The process's own handlers come back."""
    former = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def train(told: signal.Signals, events: list[str]) -> None:
    """A training of one step in which a signal arrives; it notes what happens in which order."""
    trainer: Any = SimpleNamespace(
        is_last_batch=False, global_step=1, save_checkpoint=lambda path: events.append(f"saved {path}")
    )
    callback = SaveWhenTold(path=Path("resume.ckpt"))
    callback.on_train_start(trainer, trainer)
    signal.raise_signal(told)
    assert events == []  # only noted: the step that runs is not torn apart
    callback.on_train_batch_end(trainer, trainer, None, None, 0)


@pytest.mark.parametrize("told", SIGNALS)
def test_saved_then_stopped(told: signal.Signals) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    heed_sigterm()
    events: list[str] = []
    with pytest.raises(Preempted, match=told.name):
        train(told, events)
    assert events == ["saved resume.ckpt"]
    with pytest.raises(Preempted, match=told.name):  # outside of a training it ends the command at once
        signal.raise_signal(told)


def test_submitit_requeues_what_is_saved() -> None:
    # submitit 1.5.4 registers its handler before the job begins; on the first rank it requeues and exits with -1.
    events: list[str] = []

    def requeue(number: int, frame: object) -> None:
        events.append("requeued")
        raise SystemExit(-1)

    signal.signal(signal.SIGUSR2, requeue)
    heed_sigterm()
    with pytest.raises(SystemExit):
        train(signal.SIGUSR2, events)
    assert events == ["saved resume.ckpt", "requeued"]


def test_the_other_ranks_stop_without_requeueing() -> None:
    # On them submitit's handler only says so and returns.
    events: list[str] = []
    signal.signal(signal.SIGUSR2, lambda number, frame: events.append("heard"))
    with pytest.raises(Preempted, match="SIGUSR2"):
        train(signal.SIGUSR2, events)
    assert events == ["saved resume.ckpt", "heard"]


def test_a_job_that_submitit_gives_up_is_one_line() -> None:
    events: list[str] = []

    def refuse(number: int, frame: object) -> None:
        raise RuntimeError("Job not requeued because: timed-out too many times.")

    signal.signal(signal.SIGUSR2, refuse)
    with pytest.raises(UserError, match=r"timed-out too many times; the training is saved.*max_num_timeout") as caught:
        train(signal.SIGUSR2, events)
    assert events == ["saved resume.ckpt"]
    assert "\n" not in str(caught.value)
