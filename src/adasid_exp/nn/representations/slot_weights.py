"""What a ranker does with the weights of a SID's slots (ADA-SID, arXiv 2510.25622v3, section 3.4).

Each class maps slot vectors ``[..., slots, dim]`` and weights ``[..., slots]`` to one row ``[..., width]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class SlotWeights(ABC):
    """A way to use slot weights; without parameters."""

    @abstractmethod
    def width(self, slots: int, dim: int) -> int:
        """Width of the result."""

    @abstractmethod
    def __call__(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """``[..., slots, dim], [..., slots] -> [..., width]``."""


class IgnoredWeights(SlotWeights):
    """The slots as they are."""

    def width(self, slots: int, dim: int) -> int:
        """Width of the result."""
        return slots * dim

    def __call__(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """The slots side by side."""
        return vectors.flatten(-2)


class ScalingWeights(SlotWeights):
    """Each slot times its weight: weight 0 equals an unused slot."""

    def width(self, slots: int, dim: int) -> int:
        """Width of the result."""
        return slots * dim

    def __call__(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """The weighted slots side by side."""
        return (vectors * weights.unsqueeze(-1)).flatten(-2)


class InputWeights(SlotWeights):
    """The slots as they are, and their weights as further inputs."""

    def width(self, slots: int, dim: int) -> int:
        """Width of the result."""
        return slots * (dim + 1)

    def __call__(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """The slots, then the weights."""
        return torch.cat([vectors.flatten(-2), weights], -1)


class ScalingInputWeights(SlotWeights):
    """Each slot times its weight, and the weights as further inputs."""

    def width(self, slots: int, dim: int) -> int:
        """Width of the result."""
        return slots * (dim + 1)

    def __call__(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """The weighted slots, then the weights."""
        return torch.cat([(vectors * weights.unsqueeze(-1)).flatten(-2), weights], -1)
