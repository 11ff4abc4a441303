"""Floors: what a machine cannot beat."""

from __future__ import annotations

import time
from collections.abc import Callable

import numba
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


LANES = 16
"""Float32 numbers of one 64-byte load."""


def load_port(lookups: float) -> float:
    """Seconds that so many table look-ups take a user, at one 64-byte load a cycle that serves 16 users."""
    return lookups / LANES / cycles_per_second()


def cycles_per_second(steps: int = 20_000_000) -> float:
    """The clock, from a chain of shifts and exclusive ors, four cycles a link."""
    _chain(10)
    start = time.process_time()
    _chain(steps)
    return 4 * steps / (time.process_time() - start)


@numba.njit
def _chain(steps: int) -> int:
    value = 88172645463325252
    for _ in range(steps):  # each waits for the one before, and no compiler shortens it
        value ^= value << 7
        value ^= value >> 9
    return value
