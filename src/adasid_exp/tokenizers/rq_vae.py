"""RQ-VAE: an autoencoder whose latent is quantized level by level (TIGER, arXiv 2305.05065; spec 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from adasid_exp.nn.mlp import MLP
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.nn.quantizers.residual import ResidualQuantizer
from adasid_exp.tokenizers.base import Encoded, SidLayout, Tokenizer, sample_items, settling
from adasid_exp.types import ItemBatch

START_ROWS = 100
"""Items per code that k-means starts from."""

REVIVAL_ROWS = 5
"""Items per code among which dead codes look for a place: encoding all would slow each epoch by a sixth."""


class RqVae(Tokenizer):
    """Embeddings in (side by side when there are several), one code a level out, coarse to fine.

    Args:
        dims: width of every embedding the data has, by name.
        modalities: the embeddings that are read and reconstructed.
        hidden: widths of the encoder's hidden layers; the decoder mirrors them.
        latent: width of the latent.
        length: levels, which is the length of a SID.
        size: codewords of a level.
        codebook: makes one level's codebook.
        fill_empty: whether codes without an item are given one after training.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        modalities: Sequence[str],
        hidden: Sequence[int],
        latent: int,
        length: int,
        size: int,
        codebook: Callable[..., Codebook],
        fill_empty: bool,
    ) -> None:
        super().__init__(modalities=modalities, dims=dims)
        inputs = sum(self.dims.values())
        self.encoder = MLP(widths=[inputs, *hidden, latent])
        self.decoder = MLP(widths=[latent, *reversed(hidden), inputs])
        self.quantizer = ResidualQuantizer(codebook=codebook, levels=length, size=size, dim=latent)
        self.length, self.size, self.fill_empty = length, size, fill_empty

    @property
    def layout(self) -> SidLayout:
        return SidLayout(
            sizes=(self.size,) * self.length,
            modalities=("+".join(self.modalities),) * self.length,
            ordered=True,
        )

    def losses(self, items: ItemBatch) -> dict[str, Tensor]:
        targets = self.targets(items)
        latents = self.latents(targets)
        if not self.started:
            return {"reconstruction": self.error(latents, targets)}
        quantized = self.quantizer(latents)
        return {"reconstruction": self.error(quantized.straight, targets), "quantization": quantized.loss}

    @torch.no_grad()
    def encode(self, items: ItemBatch) -> Encoded:
        codes = self.quantizer.encode(self.latents(self.targets(items)))
        return Encoded(codes=codes, weights=torch.ones(codes.shape, device=codes.device))

    @torch.no_grad()
    def reconstruct(self, items: ItemBatch) -> dict[str, Tensor]:
        return self.split(self.decoder(self.quantizer.decode(self.encode(items).codes)))

    @torch.no_grad()
    def start(self, items: ItemBatch) -> None:
        generator = self.generator(0)
        chosen = sample_items(items, START_ROWS * self.size, generator)
        self.quantizer.initialise(self.latents(self.targets(chosen)), generator)
        super().start(items)

    @torch.no_grad()
    def end_epoch(self, items: ItemBatch, step: int, total_steps: int) -> None:
        if not self.started or settling(step, total_steps) or not bool(self.quantizer.dead.any()):
            return
        generator = self.generator(step)
        chosen = sample_items(items, REVIVAL_ROWS * self.size, generator)
        self.quantizer.revive(self.latents(self.targets(chosen)), generator)

    @torch.no_grad()
    def finalize(self, items: ItemBatch) -> None:
        if self.fill_empty:
            self.quantizer.fill_empty(self.latents(self.targets(items)))

    def latents(self, targets: Mapping[str, Tensor]) -> Tensor:
        """Encoder output ``[items, latent]``."""
        return self.encoder(torch.cat([targets[name] for name in self.modalities], dim=1))

    def split(self, decoded: Tensor) -> dict[str, Tensor]:
        """The decoder's output by modality."""
        return dict(zip(self.modalities, decoded.split(list(self.dims.values()), dim=1), strict=True))

    def error(self, decodable: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Squared error of the decoder: the mean over modalities of the mean over items and dimensions."""
        decoded = self.split(self.decoder(decodable))
        return torch.stack([F.mse_loss(decoded[name], targets[name]) for name in self.modalities]).mean()
