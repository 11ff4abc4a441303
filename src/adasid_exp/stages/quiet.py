"""Silence where libraries advertise or advise what does not hold here."""

from __future__ import annotations

import logging
import warnings

import lightning.pytorch  # noqa: F401 - it sets its loggers' levels when imported, so before ours


def quiet() -> None:
    """Lightning's banners off; its advice on loader workers off: tables live in memory on purpose."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message="The number of training batches.*")
    # A resumed run finds its own checkpoints and logs: that is what resuming means.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated.*")
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides.*")
    # A machine may have SLURM without this process being one of its jobs.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system.*")
    # Every rank computes what it logs from what all have gathered: there is nothing left to reduce.
    warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*sync_dist=True.*")
