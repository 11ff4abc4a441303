"""The family of residual tokenizers: one or more residual autoencoders, whose codes stand one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from adasid_exp.functional.ranks import mse_over_ranks
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.nn.residual_autoencoder import Coded, ResidualAutoencoder
from adasid_exp.tokenizers.base import Encoded, SidLayout, TrainableTokenizer, sample_items, settling
from adasid_exp.types import ItemBatch

START_ROWS = 100
"""Items per code that k-means starts from."""

REVIVAL_ROWS = 5
"""Items per code among which dead codes look for a place: encoding all would slow each epoch by a sixth."""


class ResidualTokenizer(TrainableTokenizer):
    """Base of the residual tokenizers; a method adds its own terms to `reconstruction_terms`.

    Args:
        dims: width of every embedding the data has, by name.
        modalities: the embeddings that are read.
        branches: which of them each autoencoder models, side by side, in SID order.
        levels: codes of each autoencoder.
        hidden: widths of the encoders' hidden layers; the decoders mirror them.
        latent: width of the latents.
        size: codewords of a level.
        codebook: makes one level's codebook.
        fill_empty: whether codes without an item are given one after training.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        modalities: Sequence[str],
        branches: Sequence[Sequence[str]],
        levels: Sequence[int],
        hidden: Sequence[int],
        latent: int,
        size: int,
        codebook: Callable[..., Codebook],
        fill_empty: bool,
    ) -> None:
        super().__init__(modalities=modalities, dims=dims)
        self.branches = tuple(tuple(names) for names in branches)
        self.levels, self.size, self.fill_empty = tuple(levels), size, fill_empty
        self.autoencoders = nn.ModuleList(
            ResidualAutoencoder(
                inputs=sum(self.dims[name] for name in names),
                hidden=hidden,
                latent=latent,
                levels=depth,
                size=size,
                codebook=codebook,
            )
            for names, depth in zip(self.branches, self.levels, strict=True)
        )

    @property
    def layout(self) -> SidLayout:
        names = ["+".join(branch) for branch in self.branches]
        return SidLayout(
            sizes=(self.size,) * sum(self.levels),
            modalities=tuple(name for name, depth in zip(names, self.levels, strict=True) for _ in range(depth)),
            ordered=True,
        )

    def losses(self, items: ItemBatch) -> dict[str, Tensor]:
        targets = self.targets(items)
        return self.reconstruction_terms(self.coded(targets), targets)

    def coded(self, targets: Mapping[str, Tensor]) -> list[Coded]:
        """One pass of every autoencoder; quantized once training has started its codebooks."""
        return [part(self.vectors(targets, names), self.started) for part, names in self.parts()]

    def reconstruction_terms(self, coded: Sequence[Coded], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Squared error, the mean over modalities, and the codebooks' loss, the mean over autoencoders."""
        decoded = self.split([part.decoded for part in coded])
        errors = [mse_over_ranks(values, targets[name]) for name, values in decoded.items()]
        terms = {"reconstruction": torch.stack(errors).mean()}
        losses = [part.loss for part in coded if part.loss is not None]
        return terms | ({"quantization": torch.stack(losses).mean()} if losses else {})

    @torch.no_grad()
    def encode(self, items: ItemBatch) -> Encoded:
        targets = self.targets(items)
        codes = torch.cat([part.encode(self.vectors(targets, names)) for part, names in self.parts()], dim=1)
        return Encoded(codes=codes, weights=torch.ones(codes.shape, device=codes.device))

    @torch.no_grad()
    def reconstruct(self, items: ItemBatch) -> dict[str, Tensor]:
        codes = self.encode(items).codes.split(list(self.levels), dim=1)
        return self.split([part.decode(own) for (part, _), own in zip(self.parts(), codes, strict=True)])

    @torch.no_grad()
    def distances(self, items: ItemBatch) -> Tensor:
        targets = self.targets(items)
        return torch.cat([part.distances(self.vectors(targets, names)) for part, names in self.parts()], dim=1)

    @torch.no_grad()
    def start(self, items: ItemBatch) -> None:
        generator = self.generator(0)
        targets = self.targets(sample_items(items, START_ROWS * self.size, generator))
        for part, names in self.parts():
            part.start(self.vectors(targets, names), generator)
        super().start(items)

    @torch.no_grad()
    def end_epoch(self, items: ItemBatch, step: int, total_steps: int) -> None:
        if not self.started or settling(step, total_steps):
            return
        dead = [(part, names) for part, names in self.parts() if part.dead]
        if not dead:
            return
        generator = self.generator(step)
        targets = self.targets(sample_items(items, REVIVAL_ROWS * self.size, generator))
        for part, names in dead:
            part.revive(self.vectors(targets, names), generator)

    @torch.no_grad()
    def finalize(self, items: ItemBatch) -> None:
        if self.fill_empty:
            targets = self.targets(items)
            for part, names in self.parts():
                part.fill_empty(self.vectors(targets, names))

    def parts(self) -> list[tuple[ResidualAutoencoder, tuple[str, ...]]]:
        """Each autoencoder with the modalities it models."""
        return list(zip(self.autoencoders, self.branches, strict=True))  # type: ignore[arg-type]

    @staticmethod
    def vectors(targets: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """An autoencoder's input, ``[items, dims]``: its modalities side by side."""
        return targets[names[0]] if len(names) == 1 else torch.cat([targets[name] for name in names], dim=1)

    def split(self, decoded: Sequence[Tensor]) -> dict[str, Tensor]:
        """The decoders' outputs by modality."""
        return {
            name: values
            for names, block in zip(self.branches, decoded, strict=True)
            for name, values in zip(names, block.split([self.dims[name] for name in names], dim=1), strict=True)
        }
