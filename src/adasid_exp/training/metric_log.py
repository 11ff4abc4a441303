"""Means of training scalars without a wait for the device at each step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adasid_exp.functional.ranks import over_ranks


class ScalarMeans:
    """Running means of named scalars: one small tensor operation a step, one transfer when they are read.

    A step may name other scalars than the one before (a warm-up has fewer terms): each mean is over the steps
    that named it, and over all ranks, which must have named the same scalars.
    """

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], Tensor] = {}
        self.steps: dict[tuple[str, ...], int] = {}

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Count one step's zero-dimensional tensors."""
        names = tuple(scalars)
        values = torch.stack([value.detach() for value in scalars.values()]).float()
        if names in self.sums:
            self.sums[names] += values
        else:
            self.sums[names] = values
        self.steps[names] = self.steps.get(names, 0) + 1

    def means(self) -> dict[str, float]:
        """Mean of each scalar since the last reset."""
        total: dict[str, float] = {}
        count: dict[str, float] = {}
        for names, sums in self.sums.items():
            *values, steps = over_ranks(torch.cat([sums, sums.new_tensor([self.steps[names]])])).tolist()
            for name, value in zip(names, values, strict=True):
                total[name] = total.get(name, 0.0) + value
                count[name] = count.get(name, 0.0) + steps
        return {name: total[name] / count[name] for name in total}

    def reset(self) -> None:
        """Forget every step."""
        self.sums.clear()
        self.steps.clear()
