"""Which of many is smallest, at the speed of memory."""

from __future__ import annotations

import torch
from torch import Tensor

EXACT = 2**24
"""Float32 holds every whole number up to here."""


def argmin_in_place(values: Tensor) -> Tensor:
    """Positions of the smallest along the last axis, the first of equals, int64 ``[...]``; ``values`` are lost.

    On the CPU torch's own ``argmin`` goes number by number. Three passes that are vectorized take a third of its
    time: the smallest, what equals it as 1 and all else as 0, and the largest of those times falling weights, which
    is where the first 1 stands. A row with a NaN gives position 0.
    """
    size = values.shape[-1]
    if values.device.type != "cpu" or values.dtype != torch.float32 or size > EXACT:
        return values.argmin(dim=-1)
    falling = torch.arange(size, 0, -1, dtype=torch.float32)
    marks = values.eq_(values.amin(dim=-1, keepdim=True)).mul_(falling)
    return (size - marks.amax(dim=-1).long()).remainder_(size)
