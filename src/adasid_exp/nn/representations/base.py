"""What a ranker sees of an item."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ItemRepresentation(nn.Module, ABC):
    """Items as vectors, and as the item-side input of personalized gates.

    Attributes:
        dim: width of the vectors.
        prior_dim: width of the gate input.
    """

    dim: int
    prior_dim: int

    @abstractmethod
    def forward(self, item: Tensor) -> Tensor:
        """``int64 [...] -> [..., dim]``."""

    @abstractmethod
    def prior(self, item: Tensor) -> Tensor:
        """``int64 [rows] -> [rows, prior_dim]``, from parameters of its own."""
