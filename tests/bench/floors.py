"""Floors: what a machine cannot beat."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

SIDE = 2048


def gemm() -> Callable[[], torch.Tensor]:
    """A float32 matrix product of 2048^3, the machine's best rate."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    out = torch.empty(SIDE, SIDE)
    return lambda: torch.mm(a, b, out=out)


def gemms(flops: float) -> float:
    """How many of those products hold ``flops`` floating-point operations."""
    return flops / (2 * SIDE**3)


def flops_of(step: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products of one call, backward included."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()
