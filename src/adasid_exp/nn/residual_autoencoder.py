"""An autoencoder whose latent is quantized level by level: the part that residual tokenizers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adasid_exp.nn.mlp import MLP
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.nn.quantizers.residual import ResidualQuantizer


@dataclass(frozen=True, kw_only=True)
class Coded:
    """What one pass gives.

    Attributes:
        latents: the encoder's output, ``[items, latent]``.
        straight: the sum of codewords with the encoder's gradient; the latents themselves without quantization.
        decoded: the decoder's output for ``straight``, ``[items, inputs]``.
        codes: int64 ``[items, levels]``; None without quantization.
        loss: the codebooks' own loss, mean over levels; None without quantization.
    """

    latents: Tensor
    straight: Tensor
    decoded: Tensor
    codes: Tensor | None
    loss: Tensor | None


class ResidualAutoencoder(nn.Module):
    """Vectors in, one code a level out, coarse to fine, and back.

    Args:
        inputs: width of the vectors.
        hidden: widths of the encoder's hidden layers; the decoder mirrors them.
        latent: width of the latent.
        levels: codes of an item.
        size: codewords of a level.
        codebook: makes one level's codebook; Euclidean.
    """

    def __init__(
        self,
        *,
        inputs: int,
        hidden: Sequence[int],
        latent: int,
        levels: int,
        size: int,
        codebook: Callable[..., Codebook],
    ) -> None:
        super().__init__()
        self.encoder = MLP(widths=[inputs, *hidden, latent])
        self.decoder = MLP(widths=[latent, *reversed(hidden), inputs])
        self.quantizer = ResidualQuantizer(codebook=codebook, levels=levels, size=size, dim=latent)

    def forward(self, vectors: Tensor, quantize: bool) -> Coded:
        """One pass over ``vectors [items, inputs]``; without ``quantize`` the decoder receives the latents."""
        latents = self.encoder(vectors)
        if not quantize:
            return Coded(latents=latents, straight=latents, decoded=self.decoder(latents), codes=None, loss=None)
        quantized = self.quantizer(latents)
        return Coded(
            latents=latents,
            straight=quantized.straight,
            decoded=self.decoder(quantized.straight),
            codes=quantized.codes,
            loss=quantized.loss,
        )

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Tensor:
        """Codes of ``vectors [items, inputs]``, int64 ``[items, levels]``."""
        return self.quantizer.encode(self.encoder(vectors))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Vectors that ``codes [items, levels]`` stand for, ``[items, inputs]``."""
        return self.decoder(self.quantizer.decode(codes))

    @torch.no_grad()
    def distances(self, vectors: Tensor) -> Tensor:
        """Squared distances of residuals to codewords, ``[items, levels, size]``, up to a constant a row and level."""
        return self.quantizer.distances(self.encoder(vectors))

    @property
    def dead(self) -> bool:
        """Whether training hardly uses some code."""
        return bool(self.quantizer.dead.any())

    @torch.no_grad()
    def start(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Start the codebooks by k-means on the residuals of ``vectors [items, inputs]``."""
        self.quantizer.initialise(self.encoder(vectors), generator)

    @torch.no_grad()
    def revive(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Move dead codewords onto residuals of ``vectors [items, inputs]``."""
        self.quantizer.revive(self.encoder(vectors), generator)

    @torch.no_grad()
    def fill_empty(self, vectors: Tensor) -> None:
        """Give every code an item of ``vectors [items, inputs]``, where that can be."""
        self.quantizer.fill_empty(self.encoder(vectors))
