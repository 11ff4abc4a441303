"""What Hydra calls in a multirun; it makes this object before it runs anything, so nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_method
from omegaconf import DictConfig


class SweepTable(Callback):
    """Each job leaves its point in the sweep's folder, whichever process ran it; the end gathers them to a table."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Keeps the point of a job of a sweep, if it ended well."""
        if config.hydra.mode == RunMode.MULTIRUN and job_return.status == JobStatus.COMPLETED:
            get_method("adasid_exp.stages.sweep_table.keep")(Path(config.hydra.sweep.dir), job_return)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes the table and tells trackers."""
        get_method("adasid_exp.stages.sweep_table.gather")(Path(config.hydra.sweep.dir))
