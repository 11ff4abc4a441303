"""Items as sums of a few rows of a table of fixed size: the Item ID baseline where a row an item is too much."""

from __future__ import annotations

from torch import Tensor

from adasid_exp.nn.hashed_embedding import HashedEmbedding
from adasid_exp.nn.representations.base import ItemRepresentation


class HashedItemId(ItemRepresentation):
    """Vectors and gate inputs from two hashed tables, found by the same hash functions; see `HashedEmbedding`.

    Args:
        rows: length of the tables.
        hashes: rows that an item adds up.
        dim: width of the vectors.
        prior_dim: width of the gate input.
    """

    def __init__(self, *, rows: int, hashes: int, dim: int, prior_dim: int) -> None:
        super().__init__()
        self.dim, self.prior_dim = dim, prior_dim
        self.vectors = HashedEmbedding(rows=rows, hashes=hashes, dim=dim)
        self.priors = HashedEmbedding(rows=rows, hashes=hashes, dim=prior_dim)

    def forward(self, item: Tensor) -> Tensor:
        """``int64 [...] -> [..., dim]``."""
        vectors: Tensor = self.vectors(item)
        return vectors

    def prior(self, item: Tensor) -> Tensor:
        """``int64 [rows] -> [rows, prior_dim]``."""
        priors: Tensor = self.priors(item)
        return priors
