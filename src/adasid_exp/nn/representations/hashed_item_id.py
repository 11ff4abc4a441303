"""Items as sums of a few rows of a table of fixed size: the Item ID baseline where a row an item is too much."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from adasid_exp.nn.embedding import EmbeddingTable
from adasid_exp.nn.representations.base import ItemRepresentation

PRIME = 2**31 - 1
"""Items are below it, and a product of two numbers below it fits 64 bits."""


class HashedItemId(ItemRepresentation):
    """The sum of ``hashes`` rows of one table, each row found by a hash function of its own (arXiv 1706.03993).

    Two items are one only where all their rows agree. Memory depends on ``rows``, not on the catalogue.

    Args:
        rows: length of the tables.
        hashes: rows that an item adds up.
        dim: width of the vectors.
        prior_dim: width of the gate input.
    """

    factors: Tensor
    shifts: Tensor

    def __init__(self, *, rows: int, hashes: int, dim: int, prior_dim: int) -> None:
        super().__init__()
        if rows < 1 or hashes < 1:
            raise ValueError(f"{hashes} hashes into {rows} rows find nothing")
        self.dim, self.prior_dim, self.rows = dim, prior_dim, rows
        # The functions are part of the method, not of a run: the same under every seed.
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("factors", torch.randint(1, PRIME, (hashes,), generator=generator), persistent=False)
        self.register_buffer("shifts", torch.randint(0, PRIME, (hashes,), generator=generator), persistent=False)
        self.vectors = EmbeddingTable(rows, dim)
        self.priors = EmbeddingTable(rows, prior_dim)

    def forward(self, item: Tensor) -> Tensor:
        """``int64 [...] -> [..., dim]``."""
        return self._sums(item, self.vectors.weight)

    def prior(self, item: Tensor) -> Tensor:
        """``int64 [rows] -> [rows, prior_dim]``."""
        return self._sums(item, self.priors.weight)

    def hashed(self, item: Tensor) -> Tensor:
        """Rows that each item adds up, ``int64 [...] -> [..., hashes]`` (Carter and Wegman's universal hashing)."""
        return (self.factors * item[..., None] + self.shifts) % PRIME % self.rows

    def _sums(self, item: Tensor, table: Tensor) -> Tensor:
        rows = self.hashed(item).flatten(0, -2)
        return F.embedding_bag(rows, table, mode="sum").view(*item.shape, table.shape[1])
