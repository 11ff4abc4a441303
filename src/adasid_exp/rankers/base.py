"""What every ranker does."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from adasid_exp.types import ImpressionBatch


class Ranker(nn.Module, ABC):
    """Scores impressions."""

    @abstractmethod
    def forward(self, batch: ImpressionBatch) -> Tensor:
        """Logits that the user likes the item, float ``[rows]``."""
