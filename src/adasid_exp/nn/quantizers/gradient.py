"""Codewords moved by the gradient of the VQ loss (VQ-VAE, arXiv 1711.00937)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.nn.quantizers.codebook import Active, Codebook, Quantized, gather_words, masked_mse


class GradientCodebook(Codebook):
    """The loss is ``(sg(z) - q)^2 + commitment * (z - sg(q))^2``; codewords are parameters."""

    def build(self, words: Tensor) -> None:
        self.words = nn.Parameter(words)

    def table(self) -> Tensor:
        return self.words

    @torch.no_grad()
    def place(self, words: Tensor, where: Tensor) -> None:
        self.words.copy_(torch.where(where.unsqueeze(-1), words, self.words))

    def quantize(self, latents: Tensor, words: Tensor, codes: Tensor, active: Active | None) -> Quantized:
        vectors = gather_words(words, codes)
        codebook_loss = masked_mse(vectors, latents.detach(), active)
        commitment_loss = masked_mse(latents, vectors.detach(), active)
        return Quantized(
            latents=latents,
            vectors=vectors,
            straight=self.estimate(latents, vectors),
            codes=codes,
            loss=codebook_loss + self.commitment * commitment_loss,
        )
