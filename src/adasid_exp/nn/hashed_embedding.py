"""Vectors of many items in a table of fixed size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from adasid_exp.nn.embedding import EmbeddingTable

PRIME = 2**31 - 1
"""Items are below it, and a product of two numbers below it fits 64 bits."""


class HashedEmbedding(EmbeddingTable):
    """The sum of ``hashes`` rows of one table, each row found by a hash function of its own (arXiv 1706.03993).

    Two items are one only where all their rows agree. Memory depends on ``rows``, not on the catalogue.

    Args:
        rows: length of the table.
        hashes: rows that an item adds up.
        dim: width of the vectors.
    """

    factors: Tensor
    shifts: Tensor

    def __init__(self, *, rows: int, hashes: int, dim: int) -> None:
        if rows < 1 or hashes < 1:
            raise ValueError(f"{hashes} hashes into {rows} rows find nothing")
        super().__init__(rows, dim)
        # The functions are part of the method, not of a run: the same under every seed.
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("factors", torch.randint(1, PRIME, (hashes,), generator=generator), persistent=False)
        self.register_buffer("shifts", torch.randint(0, PRIME, (hashes,), generator=generator), persistent=False)

    def forward(self, item: Tensor) -> Tensor:
        """``int64 [...] -> [..., dim]``."""
        rows = self.hashed(item).flatten(0, -2)
        return F.embedding_bag(rows, self.weight, mode="sum").view(*item.shape, self.embedding_dim)

    def hashed(self, item: Tensor) -> Tensor:
        """Rows that each item adds up, ``int64 [...] -> [..., hashes]`` (Carter and Wegman's universal hashing)."""
        return (self.factors * item[..., None] + self.shifts) % PRIME % self.num_embeddings
