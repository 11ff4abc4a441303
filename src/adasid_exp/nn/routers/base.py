"""What a router of behavior slots is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Router(nn.Module, ABC):
    """Gives every behavior slot of an item a non-negative weight; 0 switches the slot off."""

    @abstractmethod
    def forward(self, behavior: Tensor, richness: Tensor) -> Tensor:
        """Standardised embeddings ``[items, dim]`` and richness ``[items]`` to R ``[items, slots]``."""

    @abstractmethod
    def emitted(self, weights: Tensor) -> Tensor:
        """Which slots of R ``[items, slots]`` become part of the SID, bool of the same shape."""
