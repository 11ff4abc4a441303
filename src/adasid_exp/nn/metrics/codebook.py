"""Codebook metrics gathered over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from adasid_exp.functional.codebook import (
    active_length,
    code_counts,
    group_sizes,
    token_entropy,
    utilisation,
)


class CodebookUsage(Metric):
    """Entropy (nats), utilisation and mean active length, exact over processes since its states are sums.

    Args:
        sizes: codebook size of each slot.
    """

    full_state_update = False
    counts: Tensor
    items: Tensor
    slots_used: Tensor

    def __init__(self, *, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        empty = torch.zeros(len(self.sizes), max(self.sizes), dtype=torch.int64)
        self.add_state("counts", default=empty, dist_reduce_fx="sum")
        self.add_state("items", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("slots_used", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Count ``codes [items, slots]``."""
        self.counts += code_counts(codes, self.sizes)
        self.items += codes.shape[0]
        self.slots_used += active_length(codes).sum()

    def compute(self) -> dict[str, Tensor]:
        """Means over slots, and the mean active length over items."""
        return {
            "entropy": token_entropy(self.counts).mean(),
            "utilisation": utilisation(self.counts, self.sizes).mean(),
            "active_length": self.slots_used / self.items.clamp(min=1),
        }


class SidCollisions(Metric):
    """Unique, collision and crowding figures; keeps every SID, since no sum can tell distinct ones."""

    full_state_update = False
    codes: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("codes", default=[], dist_reduce_fx="cat")

    def update(self, codes: Tensor) -> None:
        """Keep ``codes [items, slots]``."""
        self.codes.append(codes)

    def compute(self) -> dict[str, Tensor]:
        """``unique_rate``, ``collision_rate`` and ``max_collision`` over all items."""
        codes = self.codes if isinstance(self.codes, Tensor) else torch.cat(self.codes)
        sizes = group_sizes(codes)
        unique = torch.tensor(sizes.numel() / codes.shape[0], dtype=torch.float64)
        return {"unique_rate": unique, "collision_rate": 1.0 - unique, "max_collision": sizes.max()}
