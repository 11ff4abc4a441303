"""What every learned codebook is, whichever rule moves its codewords."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adasid_exp.functional.kmeans import kmeans
from adasid_exp.functional.nearest import argmin_in_place
from adasid_exp.functional.ranks import from_first_rank, mse_over_ranks, over_ranks, ratio_to_total, sum_later
from adasid_exp.functional.straight_through import straight_through

REVIVAL_NOISE = 0.01
"""Noise on a revived codeword as a share of the latents' spread: two codes that draw one latent must part."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Latents and the codewords that stand for them.

    Attributes:
        latents: what was compared, ``[items, experts, dim]``: of unit length in a spherical codebook.
        vectors: the chosen codewords, same shape, with the gradient that the codebook's rule allows.
        straight: the value of ``vectors`` for the decoder, with the gradient that the rule gives the encoder.
        codes: int64 ``[items, experts]``.
        loss: the rule's own loss: the mean over experts of the mean over active items and dimensions.
    """

    latents: Tensor
    vectors: Tensor
    straight: Tensor
    codes: Tensor
    loss: Tensor


@dataclass(frozen=True, kw_only=True)
class Active:
    """Which latents take part.

    Attributes:
        mask: bool ``[items, experts]``.
        total: how many take part on all ranks, ``[experts]``.
    """

    mask: Tensor
    total: Tensor


class Codebook(nn.Module, ABC):
    """``experts`` independent codebooks of ``size`` codewords, looked up together.

    Args:
        experts: codebooks side by side.
        size: codewords of each.
        dim: width of a latent.
        spherical: compare by cosine: latents and codewords are brought to unit length;
            otherwise by Euclidean distance.
        commitment: weight of the term that the rule damps (see the rule).
        usage_decay: per step, of the running share of items that each code takes.
        revive_below: a code whose share is below this multiple of the mean share is dead.
        kmeans_iterations: Lloyd steps of the start.
    """

    no_weight_decay = True
    averages = False
    """Whether codewords move within a forward pass, which the next one must see."""
    usage: Tensor

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
        super().__init__()
        self.experts, self.size, self.dim = experts, size, dim
        self.spherical, self.commitment = spherical, commitment
        self.usage_decay, self.revive_below = usage_decay, revive_below
        self.kmeans_iterations = kmeans_iterations
        self.register_buffer("usage", torch.full((experts, size), 1.0 / size))
        self.build(torch.randn(experts, size, dim) / dim**0.5)

    @abstractmethod
    def build(self, words: Tensor) -> None:
        """Make the rule's parameters and buffers, given random ``words [experts, size, dim]`` to begin with."""

    @abstractmethod
    def table(self) -> Tensor:
        """Codewords before normalisation, ``[experts, size, dim]``."""

    @abstractmethod
    def place(self, words: Tensor, where: Tensor) -> None:
        """Overwrite the codewords at ``where [experts, size]`` (bool) by ``words [experts, size, dim]``."""

    @abstractmethod
    def quantize(self, latents: Tensor, words: Tensor, codes: Tensor, active: Active | None) -> Quantized:
        """The rule: what the decoder receives and what moves latents and codewords."""

    def forward(self, latents: Tensor, active: Tensor | None = None) -> Quantized:
        """Quantize ``latents [items, experts, dim]``.

        Where ``active [items, experts]`` is false, a latent enters neither loss nor usage nor averages.
        """
        latents = self.project(latents)
        words = self.codewords()
        codes = nearest(latents, words)
        quantized = self.quantize(latents, words, codes, counted(active))
        if self.training:
            self.observe(latents, codes, active)
        return quantized

    def estimate(self, latents: Tensor, vectors: Tensor) -> Tensor:
        """The value of ``vectors`` with the gradient that the encoder shall see, ``[..., dim]``."""
        return straight_through(latents, vectors)

    def project(self, latents: Tensor) -> Tensor:
        """Latents as they are compared with codewords."""
        return F.normalize(latents, dim=-1) if self.spherical else latents

    def codewords(self) -> Tensor:
        """Codewords as they are compared with latents, ``[experts, size, dim]``."""
        return self.project(self.table())

    @torch.no_grad()
    def assign(self, latents: Tensor) -> Tensor:
        """Nearest codes, int64 ``[items, experts]``."""
        return nearest(self.project(latents), self.codewords())

    @torch.no_grad()
    def distances(self, latents: Tensor) -> Tensor:
        """Squared distances less the latents' own squared lengths, ``[items, experts, size]``."""
        return 2.0 * half_distances(self.project(latents), self.codewords()).transpose(0, 1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codewords of ``codes [items, experts]``, ``[items, experts, dim]``."""
        return gather_words(self.codewords(), codes)

    @torch.no_grad()
    def observe(self, latents: Tensor, codes: Tensor, active: Tensor | None) -> None:
        """Keep count of what this training batch uses. Rules that average also do so here."""
        sum_later([usage_counts(codes, active, self.size)], self.count)

    def count(self, counts: Tensor) -> None:
        """Fold a batch's ``counts [experts, size]`` over all ranks into the running shares."""
        total = counts.sum(dim=1, keepdim=True)
        step = (1.0 - self.usage_decay) * (total > 0)
        self.usage += step * (counts / total.clamp(min=1.0) - self.usage)

    @torch.no_grad()
    def initialise(self, latents: Tensor, active: Tensor | None, generator: torch.Generator) -> None:
        """Start every expert's codewords by k-means on its active ``latents [items, experts, dim]``."""
        latents = self.project(latents)
        rows = torch.ones_like(latents[..., 0], dtype=torch.bool) if active is None else active
        words = [self._centroids(latents[:, e], rows[:, e], generator) for e in range(self.experts)]
        self.place(from_first_rank(torch.stack(words)), torch.ones_like(self.usage, dtype=torch.bool))
        self.usage.fill_(1.0 / self.size)

    @torch.no_grad()
    def revive(self, latents: Tensor, active: Tensor | None, generator: torch.Generator) -> None:
        """Move dead codewords onto random active ``latents [items, experts, dim]``, slightly shaken."""
        dead = self.dead
        latents = self.project(latents)
        weights = torch.ones(latents.shape[:2]) if active is None else active.float().cpu()
        weights = torch.where(weights.sum(dim=0) > 0, weights, 1.0)
        rows = torch.multinomial(weights.T, self.size, replacement=True, generator=generator)
        words = latents[rows.to(latents.device), torch.arange(self.experts, device=latents.device)[:, None]]
        noise = torch.randn(words.shape, generator=generator).to(words)
        spread = words.std(dim=1, keepdim=True, correction=0)
        self.place(from_first_rank(words + REVIVAL_NOISE * spread * noise), dead)
        self.usage.masked_fill_(dead, 1.0 / self.size)

    @property
    def dead(self) -> Tensor:
        """Which codes training hardly uses, bool ``[experts, size]``."""
        return self.usage < self.revive_below / self.size

    @torch.no_grad()
    def fill_empty(self, latents: Tensor, active: Tensor | None) -> None:
        """Give every code an item of ``latents [items, experts, dim]`` (all items), where that can be.

        An unused codeword moves onto the item that is farthest from its codeword in the fullest cell.
        """
        latents = self.project(latents)
        for _ in range(self.size):
            words = self.codewords()
            codes = nearest(latents, words)
            counts = usage_counts(codes, active, self.size)
            if not bool((counts == 0).any()):
                return
            far = farthest_of_fullest(latents, words, codes, counts, active)
            first = F.one_hot(counts.argmin(dim=1), self.size).bool() & (counts == 0)
            self.place(far.unsqueeze(1).expand_as(words), first)

    def _centroids(self, latents: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        points = latents[rows] if bool(rows.any()) else latents
        return kmeans(
            points,
            size=self.size,
            iterations=self.kmeans_iterations,
            generator=generator,
            spherical=self.spherical,
        )


@torch.no_grad()
def nearest(latents: Tensor, words: Tensor) -> Tensor:
    """Codes nearest to ``latents [items, experts, dim]``, int64 ``[items, experts]``."""
    return argmin_in_place(half_distances(latents, words)).T


def half_distances(latents: Tensor, words: Tensor) -> Tensor:
    """Half the squared distances less half the latents' own squared lengths, ``[experts, items, size]``."""
    lengths = 0.5 * words.square().sum(dim=-1).unsqueeze(1)
    return torch.baddbmm(lengths, latents.transpose(0, 1), words.transpose(1, 2), alpha=-1.0)


def gather_words(words: Tensor, codes: Tensor) -> Tensor:
    """Rows of ``words [experts, size, dim]`` at ``codes [items, experts]``, ``[items, experts, dim]``."""
    experts, size, dim = words.shape
    return F.embedding(flat_codes(codes, size), words.reshape(experts * size, dim))


def flat_codes(codes: Tensor, size: int) -> Tensor:
    """``codes [items, experts]`` numbered through all experts: expert e has ``e*size .. (e+1)*size-1``."""
    if codes.shape[1] == 1:
        return codes
    return codes + size * torch.arange(codes.shape[1], device=codes.device)


def usage_counts(codes: Tensor, active: Tensor | None, size: int) -> Tensor:
    """How many active items take each code, float32 ``[experts, size]``."""
    experts = codes.shape[1]
    weight = torch.ones(codes.shape, device=codes.device) if active is None else active.float()
    counts = torch.zeros(experts * size, device=codes.device)
    counts.scatter_add_(0, flat_codes(codes, size).reshape(-1), weight.reshape(-1))
    return counts.view(experts, size)


def counted(active: Tensor | None) -> Active | None:
    """``active [items, experts]`` with its counts over all ranks."""
    return None if active is None else Active(mask=active, total=over_ranks(active.sum(dim=0)))


def masked_mse(a: Tensor, b: Tensor, active: Active | None) -> Tensor:
    """Squared error of ``[items, experts, dim]``: mean over experts of that over active items and dims."""
    if active is None:
        return mse_over_ranks(a, b)
    errors = (a - b).square().mean(dim=-1) * active.mask
    return ratio_to_total(errors.sum(dim=0), active.total).mean()


def farthest_of_fullest(latents: Tensor, words: Tensor, codes: Tensor, counts: Tensor, active: Tensor | None) -> Tensor:
    """Per expert the latent farthest from its codeword in the fullest cell, ``[experts, dim]``."""
    distance = (latents - gather_words(words, codes)).square().sum(dim=-1)
    inside = codes == counts.argmax(dim=1)
    if active is not None:
        inside = inside & active
    row = distance.masked_fill(~inside, -1.0).argmax(dim=0)
    return latents[row, torch.arange(latents.shape[1], device=latents.device)]
