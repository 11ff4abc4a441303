"""Codewords that are running means of their latents (VQ-VAE, arXiv 1711.00937, A.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adasid_exp.functional.kmeans import cluster_sums
from adasid_exp.functional.ranks import sum_later
from adasid_exp.nn.quantizers.codebook import (
    Active,
    Codebook,
    Quantized,
    flat_codes,
    gather_words,
    masked_mse,
    usage_counts,
)

LAPLACE = 1e-5
"""Pseudo-count that keeps the mean of an unused code finite."""


class EmaCodebook(Codebook):
    """The loss is ``commitment * (z - sg(q))^2``; codewords are buffers, averaged in training mode.

    Args:
        decay: per step, of the running counts and sums.
    """

    averages = True
    words: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        *,
        experts: int,
        size: int,
        dim: int,
        spherical: bool,
        commitment: float,
        usage_decay: float,
        revive_below: float,
        kmeans_iterations: int,
        decay: float,
    ) -> None:
        super().__init__(
            experts=experts,
            size=size,
            dim=dim,
            spherical=spherical,
            commitment=commitment,
            usage_decay=usage_decay,
            revive_below=revive_below,
            kmeans_iterations=kmeans_iterations,
        )
        self.decay = decay

    def build(self, words: Tensor) -> None:
        self.register_buffer("words", words)
        self.register_buffer("counts", torch.ones(words.shape[:2]))
        self.register_buffer("sums", self.words.clone())

    def table(self) -> Tensor:
        return self.words

    @torch.no_grad()
    def place(self, words: Tensor, where: Tensor) -> None:
        mask = where.unsqueeze(-1)
        words = F.normalize(words, dim=-1) if self.spherical else words
        self.counts.copy_(torch.where(where, self.counts.mean(dim=1, keepdim=True), self.counts))
        self.sums.copy_(torch.where(mask, words * self.counts.unsqueeze(-1), self.sums))
        self.words.copy_(torch.where(mask, words, self.words))

    def quantize(self, latents: Tensor, words: Tensor, codes: Tensor, active: Active | None) -> Quantized:
        vectors = gather_words(words, codes)
        return Quantized(
            latents=latents,
            vectors=vectors,
            straight=self.estimate(latents, vectors),
            codes=codes,
            loss=self.commitment * masked_mse(latents, vectors, active),
        )

    @torch.no_grad()
    def observe(self, latents: Tensor, codes: Tensor, active: Tensor | None) -> None:
        points = (latents if active is None else latents * active.unsqueeze(-1)).float()
        rows = flat_codes(codes, self.size).reshape(-1)
        sums = cluster_sums(points.reshape(-1, self.dim), rows, self.experts * self.size)
        sum_later([usage_counts(codes, active, self.size), sums.view_as(self.sums)], self.average)

    @torch.no_grad()
    def average(self, counts: Tensor, sums: Tensor) -> None:
        """Move the codewords by a batch's ``counts [experts, size]`` and ``sums [experts, size, dim]`` of all ranks."""
        self.count(counts)
        self.counts.lerp_(counts, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        self.words.copy_(self.project(self.sums / smoothed(self.counts).unsqueeze(-1)))


def smoothed(counts: Tensor) -> Tensor:
    """Laplace-smoothed ``counts [experts, size]`` with the same sum per expert."""
    total = counts.sum(dim=1, keepdim=True)
    return (counts + LAPLACE) / (total + counts.shape[1] * LAPLACE) * total
