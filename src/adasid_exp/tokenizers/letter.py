"""LETTER: an RQ-VAE of content whose latents predict behavior and whose codewords spread (arXiv 2405.07314)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adasid_exp.nn.losses.collaborative import Collaborative
from adasid_exp.nn.losses.diversity import Diversity
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.nn.standardize import BEHAVIOR
from adasid_exp.tokenizers.residual import ResidualTokenizer
from adasid_exp.types import ItemBatch, UserError

DRAWS = 2**31
"""Sets the draws of partners apart from those of starts and revivals."""


class Letter(ResidualTokenizer):
    """`RqVae` of the content with two more terms; without them it is that, bit for bit.

    Args:
        dims: width of every embedding the data has, by name.
        modalities: the embeddings that are read: content, which SIDs speak of, and ``behavior``.
        length: levels, which is the length of a SID.
        hidden, latent, size, codebook, fill_empty: as in `ResidualTokenizer`.
        collaborative: builds the term with behavior from ``latent`` and ``behavior``.
        diversity: builds the term between codewords from ``levels`` and ``size``.

    Raises:
        UserError: when ``modalities`` lacks behavior, or content.
    """

    steps: Tensor

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        dims: Mapping[str, int],
        latent: int,
        hidden: Sequence[int],
        length: int,
        codebook: Callable[..., Codebook],
        size: int,
        fill_empty: bool,
        collaborative: Callable[..., Collaborative],
        diversity: Callable[..., Diversity],
    ) -> None:
        content = [name for name in modalities if name != BEHAVIOR]
        if not content or len(content) == len(modalities):
            raise UserError(
                f"tokenizer.modalities={list(modalities)}: LETTER reads content and behavior:"
                " name both, as [text, behavior]"
            )
        super().__init__(
            dims=dims,
            modalities=modalities,
            branches=[content],
            size=size,
            codebook=codebook,
            fill_empty=fill_empty,
            levels=[length],
            hidden=hidden,
            latent=latent,
        )
        # After the shared parts: they start from the same random numbers as RQ-VAE's.
        self.collaborative = collaborative(latent=latent, behavior=self.dims[BEHAVIOR])
        self.diversity = diversity(levels=length, size=size)
        self.register_buffer("steps", torch.tensor(0))
        self.stream = (int(self.seed), 0)
        """Seed and step of the next draw; mirrors buffers, so that a step does not wait for the device."""
        self.register_load_state_dict_post_hook(_recall_stream)

    def losses(self, items: ItemBatch) -> dict[str, Tensor]:
        targets = self.targets(items)
        (coded,) = outputs = self.coded(targets)
        terms = self.reconstruction_terms(outputs, targets)
        if self.collaborative.weight:
            terms |= self.collaborative(coded.straight, items.features[BEHAVIOR], items.count > 0)
        if self.diversity.weight and coded.codes is not None:
            seed, step = self.stream
            terms |= self.diversity(self.words(), coded.codes, torch.Generator().manual_seed(DRAWS * (step + 1) + seed))
        return terms

    def words(self) -> Tensor:
        """Codewords of every level, with gradient, ``[levels, size, latent]``."""
        ((part, _),) = self.parts()
        return torch.cat([book.codewords() for book in part.quantizer.books()])

    def after_step(self, step: int, total_steps: int) -> None:
        self.steps.fill_(step)
        self.stream = (self.stream[0], step)

    def start(self, items: ItemBatch) -> None:
        super().start(items)
        if self.diversity.weight:
            self.diversity.start(self.words(), self.generator(0))

    def end_epoch(self, items: ItemBatch, step: int, total_steps: int) -> None:
        super().end_epoch(items, step, total_steps)
        if self.diversity.weight and self.started:
            self.diversity.follow(self.words())


def _recall_stream(tokenizer: Letter, _keys: Any) -> None:
    tokenizer.stream = (int(tokenizer.seed), int(tokenizer.steps))
