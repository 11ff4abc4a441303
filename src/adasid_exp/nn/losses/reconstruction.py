"""How far a reconstruction of several modalities is from its target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adasid_exp.functional.ranks import mean_over_ranks


class Reconstruction(nn.Module, ABC):
    """Squared error of the modalities side by side, mean over items.

    Args:
        dims: width of each modality's block.
        weight: of this term in the total loss.
    """

    shares: Tensor

    def __init__(self, *, dims: Sequence[int], weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("shares", torch.cat(self.blocks(dims)), persistent=False)

    @staticmethod
    @abstractmethod
    def blocks(dims: Sequence[int]) -> list[Tensor]:
        """Share of each column in the loss, by block; they sum to 1."""

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """``[items, sum(dims)]`` each, to a scalar."""
        return self.weight * mean_over_ranks((reconstruction - target).square() @ self.shares)


class BalancedReconstruction(Reconstruction):
    """Every modality counts alike, however wide it is."""

    @staticmethod
    def blocks(dims: Sequence[int]) -> list[Tensor]:
        return [torch.full((dim,), 1 / (dim * len(dims))) for dim in dims]


class FlatReconstruction(Reconstruction):
    """Every column counts alike, so wide modalities outweigh narrow ones (Eq. 11 by column)."""

    @staticmethod
    def blocks(dims: Sequence[int]) -> list[Tensor]:
        return [torch.full((dim,), 1 / sum(dims)) for dim in dims]
