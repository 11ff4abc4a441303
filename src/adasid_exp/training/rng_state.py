"""Random states in checkpoints, so that a resumed run draws what an unbroken one would have drawn."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from adasid_exp.functional.ranks import own_rank, ranks


class RngState(Callback):
    """Saves the states of Python's, numpy's and torch's generators, of all ranks, and restores them before the first
    batch.

    Not earlier: set-up between loading a checkpoint and the first batch may draw numbers too.
    """

    def __init__(self) -> None:
        self.pending: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        if ranks() == 1:
            return capture()
        states: list[Any] = [None] * ranks()
        torch.distributed.all_gather_object(states, capture())
        return {"ranks": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict.get("ranks", [state_dict])
        # On more ranks than before the new ones keep the numbers they started with.
        self.pending = states[own_rank()] if own_rank() < len(states) else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.pending is not None:
            restore(self.pending)
            self.pending = None


def capture() -> dict[str, Any]:
    """The states of all generators, of types that a safe load of a checkpoint accepts."""
    name, keys, *rest = np.random.get_state(legacy=True)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def restore(state: dict[str, Any]) -> None:
    """Put all generators back into a captured state."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([values.cpu() for values in state["cuda"]])
