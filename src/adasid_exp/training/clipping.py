"""Clipping of gradients that a fused optimizer allows under every precision."""

from __future__ import annotations

import torch
from lightning import LightningModule
from torch.optim import Optimizer


class ClippedModule(LightningModule):
    """Clips by the norm of all gradients; Lightning refuses with bf16 and a fused optimizer, for a reason of fp16."""

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
