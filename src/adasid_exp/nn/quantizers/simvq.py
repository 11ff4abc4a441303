"""A frozen basis under one learned linear map per codebook (SimVQ, arXiv 2411.02038; spec 1.5 `simvq`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.nn.quantizers.codebook import Codebook, Quantized, gather_words, masked_mse


class SimVqCodebook(Codebook):
    """Codewords are ``basis @ map``: all of an expert's codewords move when one does.

    The loss is ``(sg(z) - q)^2 + commitment * (z - sg(q))^2``. The basis is random until k-means.
    """

    basis: Tensor

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
        self.register_buffer("basis", torch.randn(experts, size, dim) / dim**0.5)
        self.map = nn.Parameter(torch.eye(dim).repeat(experts, 1, 1))

    def table(self) -> Tensor:
        return torch.bmm(self.basis, self.map)

    @torch.no_grad()
    def place(self, words: Tensor, where: Tensor) -> None:
        # The row whose image under the learned map is the wanted codeword.
        rows = torch.linalg.lstsq(self.map.transpose(1, 2), words.transpose(1, 2)).solution
        self.basis.copy_(torch.where(where.unsqueeze(-1), rows.transpose(1, 2), self.basis))

    def quantize(self, latents: Tensor, words: Tensor, codes: Tensor, active: Tensor | None) -> Quantized:
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
