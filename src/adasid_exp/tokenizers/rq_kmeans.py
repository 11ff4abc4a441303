"""RQ-KMeans: content tuned to behavior, then k-means level by level (QARM 2411.11739, OneRec 2502.18965)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adasid_exp.functional.contrastive import log_partition, similarities
from adasid_exp.functional.ranks import gathered_together, mean_over_ranks, ratio_to_total
from adasid_exp.nn.clustering import Clustering
from adasid_exp.nn.mlp import MLP
from adasid_exp.nn.positives import Positives
from adasid_exp.nn.quantizers.residual_clusters import ResidualClusters
from adasid_exp.nn.standardize import ColumnStandardize
from adasid_exp.tokenizers.base import Encoded, SidLayout, TrainableTokenizer
from adasid_exp.types import ItemBatch

FINETUNED = "finetuned"
"""Name of what is quantized and reconstructed: no input, so its error compares with no other method's."""


class RqKmeans(TrainableTokenizer):
    """Content in (side by side), a behavior-tuned unit vector between, one cluster a level out, coarse to fine.

    Training tunes the vector: items that behavior pairs come close (InfoNCE), and the content can still be read
    from it. The clusters are made from all items' vectors, at the start for a first look and again at the end.

    Args:
        dims: width of every embedding the data has, by name.
        histories: the training part's sequences: items int64 ``[total]``, oldest first, offsets int64 ``[users + 1]``.
        counts: interactions of every item in it, int64 ``[items]``.
        modalities: the embeddings that are read; content, not behavior.
        hidden: widths of the hidden layers; the decoder mirrors them.
        latent: width of the tuned vector.
        length: levels, which is the length of a SID.
        size: clusters of a level.
        positives: makes the pairs from ``histories`` and ``items``.
        temperature: of the contrast.
        reconstruction: weight of the content's squared error.
        clustering: of a level's residuals.
    """

    step: Tensor
    content: Tensor

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        histories: tuple[Tensor, Tensor],
        counts: Tensor,
        modalities: Sequence[str],
        hidden: Sequence[int],
        latent: int,
        length: int,
        size: int,
        positives: Callable[..., Positives],
        temperature: float,
        reconstruction: float,
        clustering: Clustering,
    ) -> None:
        super().__init__(modalities=modalities, dims=dims)
        inputs, items = sum(self.dims.values()), counts.numel()
        self.encoder = MLP(widths=[inputs, *hidden, latent])
        self.decoder = MLP(widths=[latent, *reversed(hidden), inputs])
        self.positives = positives(histories=histories, items=items)
        self.clusters = ResidualClusters(clustering=clustering, levels=length, size=size, dim=latent, items=items)
        self.tuned = ColumnStandardize(dim=latent)
        self.length, self.size = length, size
        self.temperature, self.reconstruction = temperature, reconstruction
        # The partner of an item is seldom in its batch. As large as the catalogue, and fitted again before a resume.
        self.register_buffer("content", torch.zeros(0, inputs), persistent=False)
        self.register_buffer("step", torch.tensor(0))
        self.steps = 0
        """Steps taken, which draws depend on; mirrors a buffer, so that a step does not wait for the device."""
        self.register_load_state_dict_post_hook(_recall_step)

    @property
    def layout(self) -> SidLayout:
        return SidLayout(
            sizes=(self.size,) * self.length,
            modalities=("+".join(self.modalities),) * self.length,
            ordered=True,
        )

    @torch.no_grad()
    def fit_statistics(self, items: ItemBatch) -> None:
        super().fit_statistics(items)
        content = self.side_by_side(items)
        self.content = torch.empty_like(content).index_copy_(0, items.index, content)

    def losses(self, items: ItemBatch) -> dict[str, Tensor]:
        drawn, known = self.positives.draw(items.index, self.generator(self.steps))
        content = self.side_by_side(items)
        vectors = F.normalize(self.encoder(content), dim=1)
        partners = F.normalize(self.encoder(self.content.index_select(0, drawn)), dim=1)
        (candidates, offered, paired), first = gathered_together(partners, drawn, known)
        logits = similarities(vectors, candidates, self.temperature)
        logits = logits.masked_fill(false_negatives(items.index, offered, first), -torch.inf)
        contrast = ratio_to_total((log_partition(logits, first, dim=1) * known).sum(), paired.sum())
        return {"contrast": contrast, "reconstruction": self.reconstruction * self.error(vectors, content)}

    @torch.no_grad()
    def encode(self, items: ItemBatch) -> Encoded:
        codes = self.clusters.encode(self.vectors(items), items.index)
        return Encoded(codes=codes, weights=torch.ones(codes.shape, device=codes.device))

    @torch.no_grad()
    def distances(self, items: ItemBatch) -> Tensor:
        return self.clusters.distances(self.vectors(items), items.index)

    @torch.no_grad()
    def reconstruct(self, items: ItemBatch) -> dict[str, Tensor]:
        return {FINETUNED: self.tuned(self.clusters.decode(self.encode(items).codes))}

    @torch.no_grad()
    def targets(self, items: ItemBatch) -> dict[str, Tensor]:
        """The tuned vectors, z-scored over the catalogue: ``[items, latent]``."""
        return {FINETUNED: self.tuned(self.vectors(items))}

    @torch.no_grad()
    def start(self, items: ItemBatch) -> None:
        self.finalize(items)
        super().start(items)

    def after_step(self, step: int, total_steps: int) -> None:
        self.step.fill_(step)
        self.steps = step

    @torch.no_grad()
    def finalize(self, items: ItemBatch) -> None:
        vectors = self.vectors(items)
        self.tuned.fit(vectors, items.count > 0)
        self.clusters.fit(vectors, items.index, self.generator(0))

    def side_by_side(self, items: ItemBatch) -> Tensor:
        """Standardised content, ``[items, inputs]``."""
        standardised = self.standardize(items)
        return torch.cat([standardised[name] for name in self.modalities], dim=1)

    def vectors(self, items: ItemBatch) -> Tensor:
        """Tuned vectors of unit length, ``[items, latent]``."""
        return F.normalize(self.encoder(self.side_by_side(items)), dim=1)

    def error(self, vectors: Tensor, content: Tensor) -> Tensor:
        """Squared error of the decoded content: the mean over modalities of the mean over items and dimensions."""
        squares = (self.decoder(vectors) - content).square().split(list(self.dims.values()), dim=1)
        return torch.stack([mean_over_ranks(block) for block in squares]).mean()


def false_negatives(index: Tensor, drawn: Tensor, first: int) -> Tensor:
    """Candidates that are a row's own positive again, drawn by another row, or the row itself.

    Args:
        index: the rows' items, int64 ``[rows]``.
        drawn: the candidates, int64 ``[candidates]``: the rows' positives, with those of other ranks around them.
        first: where the rows' own begin.

    Returns:
        bool ``[rows, candidates]``, false where a row meets its own.
    """
    own = drawn[first : first + len(index)]
    clash = (drawn[None, :] == own[:, None]) | (drawn[None, :] == index[:, None])
    clash.diagonal(first).fill_(False)
    return clash


def _recall_step(tokenizer: RqKmeans, _keys: Any) -> None:
    tokenizer.steps = int(tokenizer.step)
