"""What a terminal shows while something is made: one bar a stage with rate, loss, time left and peak memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from adasid_exp.artifacts.provenance import peak_mb

PATIENCE = 2.0
"""Seconds before a bar shows: what takes less needs none."""
WIDE = 110
"""Columns of a terminal on which there is room for everything."""
PAUSE = 0.25
"""Seconds between two looks at the loss, each of which waits for the device."""


class Bar:
    """One line of a terminal: what, how far, and a text; on a narrow one the first word, and no picture.

    Args:
        what: name of the work.
        total: how much there is to do.
        keep: whether the line stays when the work is done.
    """

    def __init__(self, *, what: str, total: float, keep: bool) -> None:
        console = Console(stderr=True)
        self.wide = console.width >= WIDE
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            *([BarColumn(bar_width=20)] if self.wide else []),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=console,
            transient=not keep,
            expand=True,
        )
        shown = what if self.wide else what.split()[0]
        self._task = self._progress.add_task(escape(shown), total=total, text="")
        self._progress.start()

    def show(self, done: float, text: str) -> None:
        """How much is done, and what there is to say of it."""
        self._progress.update(self._task, completed=done, text=escape(text))

    def stop(self) -> None:
        """The terminal is free again."""
        self._progress.stop()


class TrainingBar(ProgressBar):
    """Epoch, steps a second, loss, the monitored metric, time left of the whole training, peak memory.

    A bar of a training stands for all its epochs; validation and test outside of it have one of their own once they
    take longer than `PATIENCE`. Other ranks than the first show nothing.

    Args:
        label: of the stage, as in its artifact.
        monitor: metric that is shown once it is known; None for none.
    """

    def __init__(self, *, label: str, monitor: str | None) -> None:
        super().__init__()
        self.label, self.monitor = label, monitor
        self._shows = True
        self._bar: Bar | None = None
        self._began = self._looked = 0.0
        self._first = 0

    def disable(self) -> None:
        """Shows nothing from now on."""
        self._shows = False

    def enable(self) -> None:
        """Shows bars again."""
        self._shows = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Only the first rank shows a bar."""
        super().setup(trainer, pl_module, stage)
        self._shows = self._shows and trainer.is_global_zero

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The bar appears; a resumed training starts where it was."""
        self._first = trainer.current_epoch * int(trainer.num_training_batches)
        self._open(self.label, float(trainer.num_training_batches) * (trainer.max_epochs or 1), keep=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A new text, four times a second at most."""
        now = time.monotonic()
        if self._bar is None or now - self._looked < PAUSE:
            return
        self._looked = now
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
        loss = loss_of(outputs)
        lost = [] if loss is None else [f"loss {loss * trainer.accumulate_grad_batches:.4g}"]
        self._bar.show(done, self._text(trainer, done, lost))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The bar stays as it was last."""
        if self._bar is not None:
            done = trainer.current_epoch * int(trainer.num_training_batches)
            self._bar.show(done, self._text(trainer, done, []))
        self._close()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the count of a validation outside of a training."""
        self._began_evaluation(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the count of a test."""
        self._began_evaluation(trainer)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """A validation outside of a training."""
        self._evaluated("validation", trainer, batch_idx + 1, trainer.num_val_batches)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """A test."""
        self._evaluated("test", trainer, batch_idx + 1, trainer.num_test_batches)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The bar of a validation outside of a training goes."""
        if not fitting(trainer):
            self._close()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The bar of a test goes."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The terminal is free for what is to be said."""
        self._close()

    def _text(self, trainer: Trainer, done: int, lost: list[str]) -> str:
        since = time.monotonic() - self._began
        rate = (done - self._first) / max(since, 1e-9)
        total = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
        epoch = min(-(-done // max(1, int(trainer.num_training_batches))), trainer.max_epochs or 1)
        left = [f"{clock((total - done) / rate)} left"] if done < total and rate > 0 else [f"in {clock(since)}"]
        wide = self._bar is not None and self._bar.wide
        place = [f"{'epoch ' if wide else ''}{epoch}/{trainer.max_epochs}", f"{rate:.3g} steps/s"]
        text = "  ".join([*place, *lost, *self._metric(trainer), *left, memory()])
        return text if wide else text.replace("val/", "").replace("peak ", "")

    def _metric(self, trainer: Trainer) -> list[str]:
        value = trainer.callback_metrics.get(self.monitor) if self.monitor else None
        return [] if value is None else [f"{self.monitor} {float(value):.4f}"]

    def _began_evaluation(self, trainer: Trainer) -> None:
        if not fitting(trainer):
            self._began = time.monotonic()

    def _evaluated(self, what: str, trainer: Trainer, done: int, batches: list[int | float]) -> None:
        now = time.monotonic()
        if fitting(trainer) or now - self._began < PATIENCE or now - self._looked < PAUSE:
            return
        self._looked = now
        total = sum(batches)
        if self._bar is None:
            began = self._began
            self._open(f"{self.label} {what}", total, keep=False)
            self._began = began
        if self._bar is not None:
            self._bar.show(done, progress_text(done, total, now - self._began, "batches"))

    def _open(self, what: str, total: float, *, keep: bool) -> None:
        self._close()
        self._began = time.monotonic()
        self._bar = Bar(what=what, total=total, keep=keep) if self._shows else None

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def fitting(trainer: Trainer) -> bool:
    """Whether this is a training, be it at its validation."""
    return trainer.state.fn == TrainerFn.FITTING


def loss_of(outputs: Any) -> float | None:
    """The loss of a step as Lightning hands it to callbacks."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return float(loss) if isinstance(loss, torch.Tensor) else None


def memory() -> str:
    """Peak memory of this process since its stage began, and of the GPU where there is one."""
    host = f"{peak_mb() / 1024:.1f} GiB"
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return f"peak {host}, GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    return f"peak {host}"


def clock(seconds: float) -> str:
    """``1:02:03``, ``2:03`` or ``3 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def spent(seconds: float) -> str:
    """As `clock`, with tenths of a second where they matter."""
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def progress_text(done: float, total: float, since: float, unit: str) -> str:
    """Rate, time left, peak memory."""
    rate = done / max(since, 1e-9)
    left = clock((total - done) / rate) if rate else "?"
    return f"{done:,.0f} of {total:,.0f} {unit}  {rate:,.0f} {unit}/s  {left} left  {memory()}"


@contextmanager
def rows_bar(what: str, total: int, unit: str, *, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with how much is done by now; a bar shows once that took longer than `PATIENCE`.

    Args:
        what: name of the work.
        total: how much there is to do.
        unit: of it, in the plural.
        wanted: whether there is a terminal to draw on.
    """
    began, bar, looked = time.monotonic(), None, 0.0

    def tell(done: int) -> None:
        nonlocal bar, looked
        now = time.monotonic()
        if not wanted or now - began < PATIENCE or now - looked < PAUSE:
            return
        looked = now
        bar = bar or Bar(what=what, total=total, keep=False)
        bar.show(done, progress_text(done, total, now - began, unit))

    try:
        yield tell
    finally:
        if bar is not None:
            bar.stop()


@contextmanager
def waiting(what: str, *, wanted: bool) -> Iterator[None]:
    """Says what is going on and since when, of work that knows no measure, once it took `PATIENCE`.

    Args:
        what: name of the work.
        wanted: whether there is a terminal to draw on.
    """
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    progress.add_task(escape(what), total=None)
    timer = threading.Timer(PATIENCE, progress.start)
    timer.daemon = True
    if wanted:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if wanted:
            timer.join()
        if progress.live.is_started:
            progress.stop()
