"""Index back-propagation: every codeword learns at every step (IBQ, arXiv 2412.02692)."""

from __future__ import annotations

import torch
from torch import Tensor

from adasid_exp.nn.quantizers.codebook import Active, Quantized, half_distances, masked_mse
from adasid_exp.nn.quantizers.gradient import GradientCodebook


class IbqCodebook(GradientCodebook):
    """The one-hot index carries the softmax's gradient, so ``straight`` is the codeword itself.

    The loss is ``(q - z)^2 + (sg(q) - z)^2 + commitment * (q - sg(z))^2``, whose first q is the soft-gradient
    one. The softmax is over negative half squared distances, which for unit lengths are the paper's dot
    products up to a constant of the row.

    Args:
        temperature: of the softmax.
    """

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
        temperature: float,
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
        self.temperature = temperature

    def estimate(self, latents: Tensor, vectors: Tensor) -> Tensor:
        """The codewords: their gradient reaches the latents through the softmax."""
        return vectors

    def quantize(self, latents: Tensor, words: Tensor, codes: Tensor, active: Active | None) -> Quantized:
        hard = super().quantize(latents, words, codes, active)
        chances = torch.softmax(-half_distances(latents, words) / self.temperature, dim=-1)
        # Exactly zero forward; backward what d(onehot)/d(softmax) = 1 gives.
        drift = torch.bmm(chances - chances.detach(), words.detach()).transpose(0, 1)
        vectors = hard.vectors + drift
        pull = masked_mse(vectors, latents, active) + masked_mse(latents, vectors.detach(), active)
        push = self.commitment * masked_mse(hard.vectors, latents.detach(), active)
        return Quantized(latents=latents, vectors=vectors, straight=vectors, codes=codes, loss=pull + push)
