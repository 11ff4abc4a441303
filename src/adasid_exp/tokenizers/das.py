"""DAS: residual codes of content, aligned in one stage with what users do (arXiv 2508.10584)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from adasid_exp.nn.interaction_alignment import InteractionAlignment, coded_apart
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.nn.standardize import BEHAVIOR
from adasid_exp.tokenizers.base import settling
from adasid_exp.tokenizers.residual import ResidualTokenizer
from adasid_exp.types import ItemBatch, UserError


class Das(ResidualTokenizer):
    """RQ-VAE whose quantized items are contrasted with interactions drawn from the training log.

    The items of a batch are reconstructed; the items of the interactions are encoded and quantized apart from
    them, without a trace in the codebooks' statistics, so that without weights this is RQ-VAE bit for bit (but
    for the clipping of gradients, whose norm takes in the parameters of the alignment).

    Args:
        histories: items of every user of the training part, and where each user's begin.
        counts: interactions of every item in the training part, int64 ``[items]``.
        dims: width of every embedding the data has, by name.
        modalities: the embeddings that are read; all but ``behavior``, side by side, are coded.
        length: levels, which is the length of a SID.
        hidden, latent, size, codebook, fill_empty: as in `ResidualTokenizer`.
        alignment: makes the contrastive terms from ``histories``, ``items``, ``dims`` and ``latent``.

    Raises:
        UserError: without content.
    """

    content: Tensor

    def __init__(
        self,
        *,
        histories: tuple[Tensor, Tensor],
        counts: Tensor,
        dims: Mapping[str, int],
        modalities: Sequence[str],
        length: int,
        hidden: Sequence[int],
        latent: int,
        size: int,
        codebook: Callable[..., Codebook],
        alignment: Callable[..., InteractionAlignment],
        fill_empty: bool,
    ) -> None:
        content = [name for name in modalities if name != BEHAVIOR]
        if not content:
            raise UserError("tokenizer.modalities: DAS codes content; name an embedding besides behavior")
        super().__init__(
            dims=dims,
            modalities=modalities,
            levels=[length],
            branches=[content],
            latent=latent,
            hidden=hidden,
            size=size,
            fill_empty=fill_empty,
            codebook=codebook,
        )
        self.alignment = alignment(histories=histories, items=len(counts), dims=self.dims, latent=latent)
        self.register_buffer("content", torch.zeros(0), persistent=False)

    def fit_statistics(self, items: ItemBatch) -> None:
        super().fit_statistics(items)
        targets = self.targets(items)
        self.content = self.vectors(targets, self.branches[0])
        self.alignment.fit(targets)

    def losses(self, items: ItemBatch) -> dict[str, Tensor]:
        return super().losses(items) | self.alignment(self.semantic, self.started)

    def semantic(self, rows: Tensor) -> Tensor:
        """Quantized vectors of the catalogue's ``rows``, ``[rows, latent]``, with the encoder's gradient."""
        return coded_apart(self.parts()[0][0], F.embedding(rows, self.content), self.started)

    def start(self, items: ItemBatch) -> None:
        super().start(items)
        self.alignment.start(self.generator(0))

    def after_step(self, step: int, total_steps: int) -> None:
        self.alignment.interactions.after_step(step)

    def end_epoch(self, items: ItemBatch, step: int, total_steps: int) -> None:
        super().end_epoch(items, step, total_steps)
        if self.started and not settling(step, total_steps):
            self.alignment.end_epoch(self.generator(step))
