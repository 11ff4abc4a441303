"""Items as rows of a table: the Item ID baseline."""

from __future__ import annotations

from torch import Tensor

from adasid_exp.nn.embedding import EmbeddingTable
from adasid_exp.nn.representations.base import ItemRepresentation


class ItemId(ItemRepresentation):
    """One free vector an item, and another one for the gates.

    Args:
        items: size of the catalogue.
        dim: width of the vectors.
        prior_dim: width of the gate input.
    """

    def __init__(self, *, items: int, dim: int, prior_dim: int) -> None:
        super().__init__()
        self.dim, self.prior_dim = dim, prior_dim
        self.vectors = EmbeddingTable(items, dim)
        self.priors = EmbeddingTable(items, prior_dim)

    def forward(self, item: Tensor) -> Tensor:
        """``int64 [...] -> [..., dim]``."""
        return self.vectors(item)

    def prior(self, item: Tensor) -> Tensor:
        """``int64 [rows] -> [rows, prior_dim]``."""
        return self.priors(item)
