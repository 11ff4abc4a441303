"""Residual quantization: each level speaks of what the levels before it left over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from adasid_exp.functional.ranks import summed_together
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.types import UserError


@dataclass(frozen=True, kw_only=True)
class ResidualQuantized:
    """A latent as a sum of codewords.

    Attributes:
        straight: the sum for the decoder, with the encoder's gradient, ``[items, dim]``.
        codes: int64 ``[items, levels]``.
        loss: mean of the levels' losses.
    """

    straight: Tensor
    codes: Tensor
    loss: Tensor


class ResidualQuantizer(nn.Module):
    """One codebook a level; each passes on its input less its codeword, without the codeword's gradient.

    (Passing on the straight-through value, as LC-Rec and LETTER do, would keep every later level's commitment
    from the encoder.)

    Args:
        codebook: makes a level's codebook from ``experts``, ``size`` and ``dim``; Euclidean.
        levels: codes of an item.
        size: codewords of a level.
        dim: width of a latent.

    Raises:
        UserError: for a spherical codebook: unit vectors do not add up to the latent.
    """

    def __init__(self, *, codebook: Callable[..., Codebook], levels: int, size: int, dim: int) -> None:
        super().__init__()
        books = [codebook(experts=1, size=size, dim=dim) for _ in range(levels)]
        if any(book.spherical for book in books):
            raise UserError(
                "tokenizer.codebook.spherical=true: codewords of unit length do not add up to a latent;"
                " residual quantization needs tokenizer.codebook.spherical=false"
            )
        self.levels = nn.ModuleList(books)

    def books(self) -> list[Codebook]:
        """The levels' codebooks, coarse to fine."""
        return list(self.levels)  # type: ignore[arg-type]

    def forward(self, latents: Tensor) -> ResidualQuantized:
        """Quantize ``latents [items, dim]``."""
        residual, total = latents, torch.zeros_like(latents)
        codes, losses = [], []
        # What codewords move by is wanted before the next pass; counts of use have time until the step's end.
        with summed_together() if self.books()[0].averages else nullcontext():
            for book in self.books():
                level = book(residual.unsqueeze(1))
                vectors = level.vectors.squeeze(1)
                residual, total = residual - vectors.detach(), total + vectors
                codes.append(level.codes)
                losses.append(level.loss)
        return ResidualQuantized(
            straight=self.books()[0].estimate(latents, total),
            codes=torch.cat(codes, dim=1),
            loss=torch.stack(losses).mean(),
        )

    @torch.no_grad()
    def encode(self, latents: Tensor) -> Tensor:
        """Codes of ``latents [items, dim]``, int64 ``[items, levels]``."""
        residual = latents.unsqueeze(1)
        codes = [self.books()[0].assign(residual)]
        for coarser, book in pairwise(self.books()):
            residual = residual - coarser.lookup(codes[-1])
            codes.append(book.assign(residual))
        return torch.cat(codes, dim=1)

    @torch.no_grad()
    def distances(self, latents: Tensor) -> Tensor:
        """Squared distances of each level's residual to its codewords, ``[items, levels, size]``.

        Less the residual's own squared length, which no comparison within a level needs.
        """
        levels, residual = [], latents.unsqueeze(1)
        for book in self.books():
            levels.append(book.distances(residual))
            residual = residual - book.lookup(book.assign(residual))
        return torch.cat(levels, dim=1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Sums of the codewords of ``codes [items, levels]``, ``[items, dim]``."""
        columns = zip(self.books(), codes.split(1, dim=1), strict=True)
        return torch.stack([book.lookup(column).squeeze(1) for book, column in columns]).sum(dim=0)

    @property
    def dead(self) -> Tensor:
        """Which codes training hardly uses, bool ``[levels, size]``."""
        return torch.cat([book.dead for book in self.books()])

    def initialise(self, latents: Tensor, generator: torch.Generator) -> None:
        """Start level after level by k-means on the residuals of ``latents [items, dim]``."""
        self._prepare(latents, lambda book, residual: book.initialise(residual, None, generator))

    def revive(self, latents: Tensor, generator: torch.Generator) -> None:
        """Move dead codewords of every level onto residuals of ``latents [items, dim]``."""
        self._prepare(latents, lambda book, residual: book.revive(residual, None, generator))

    def fill_empty(self, latents: Tensor) -> None:
        """Give every code of every level an item of ``latents [items, dim]``, where that can be."""
        self._prepare(latents, lambda book, residual: book.fill_empty(residual, None))

    @torch.no_grad()
    def _prepare(self, latents: Tensor, change: Callable[[Codebook, Tensor], None]) -> None:
        residual = latents
        for book in self.books():
            change(book, residual.unsqueeze(1))
            residual = residual - book.lookup(book.assign(residual.unsqueeze(1))).squeeze(1)
