"""A frozen basis under one learned linear map per codebook (SimVQ, arXiv 2411.02038)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.nn.quantizers.gradient import GradientCodebook


class SimVqCodebook(GradientCodebook):
    """Codewords are ``basis @ map``: all of an expert's codewords move when one does.

    The loss is ``(sg(z) - q)^2 + commitment * (z - sg(q))^2``. The basis is random until k-means.
    """

    basis: Tensor

    def build(self, words: Tensor) -> None:
        self.register_buffer("basis", words)
        self.map = nn.Parameter(torch.eye(self.dim).repeat(self.experts, 1, 1))

    def table(self) -> Tensor:
        return torch.bmm(self.basis, self.map)

    @torch.no_grad()
    def place(self, words: Tensor, where: Tensor) -> None:
        # The row whose image under the learned map is the wanted codeword.
        rows = torch.linalg.lstsq(self.map.transpose(1, 2), words.transpose(1, 2)).solution
        self.basis.copy_(torch.where(where.unsqueeze(-1), rows.transpose(1, 2), self.basis))
