"""The optimiser and the learning-rate curve that every trained part uses."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

LONGEST_WARMUP = 0.1
"""Largest share of training that the warm-up takes: short runs shorten it."""


def adamw(module: nn.Module, *, learning_rate: float, weight_decay: float) -> AdamW:
    """Fused AdamW over the trainable parameters of ``module``.

    Vectors (biases, norms), embedding tables and every submodule that sets ``no_weight_decay = True``
    (codebooks, gates) are not decayed.
    """
    spared = _spared(module)
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) in spared], "weight_decay": 0.0},
    ]
    return AdamW([g for g in groups if g["params"]], lr=learning_rate, fused=True)


def warmup_cosine(optimizer: Optimizer, *, warmup_steps: int, total_steps: int, floor: float) -> LambdaLR:
    """Linear rise over ``warmup_steps`` (at most a tenth of training), then cosine to ``floor`` of the peak.

    Stepped once per optimiser step.
    """
    warmup = min(warmup_steps, int(LONGEST_WARMUP * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def _spared(module: nn.Module) -> set[int]:
    """Ids of the parameters that are not decayed."""
    spared = {id(p) for p in module.parameters() if p.ndim < 2}
    for part in module.modules():
        if isinstance(part, nn.Embedding) or getattr(part, "no_weight_decay", False):
            spared |= {id(p) for p in part.parameters()}
    return spared
