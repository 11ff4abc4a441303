"""ADA-SID (MMQ-v2, arXiv 2510.25622): content and behavior in parallel slots, behavior for what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from adasid_exp.nn.losses.alignment import Alignment, NoAlignment
from adasid_exp.nn.losses.auxiliary import AuxiliaryDecoders, Orthogonality
from adasid_exp.nn.losses.reconstruction import Reconstruction
from adasid_exp.nn.losses.sparsity import NoSparsity, SparsityRegularizer
from adasid_exp.nn.mlp import MLP
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.nn.richness import Richness
from adasid_exp.nn.routers.base import Router
from adasid_exp.nn.straight_through import Fused, PerExpert, weighted_sum
from adasid_exp.tokenizers.ada_sid_parts import BEHAVIOR, Mixture, View, Width, plan_slots
from adasid_exp.tokenizers.base import Encoded, SidLayout, TrainableTokenizer, in_chunks, sample_items, settling
from adasid_exp.types import PAD, ItemBatch

KMEANS_ROWS = 256
"""Items per codeword that k-means starts from, at most."""
CHUNK = 8192
"""Items looked at together when the whole catalogue passes."""


class AdaSid(TrainableTokenizer):
    """Shared, content and behavior experts with a codebook each; a router switches behavior slots on and off.

    Args:
        dims: width of every embedding the data has, by name.
        modalities: which to read, content in SID order; None for all. ``behavior`` must be among them.
        slots: how many of each group; ``content`` speaks for every content modality not named itself.
        size: codewords of each slot.
        width: ``hidden``, ``latent`` (projections) and ``code`` widths.
        codebook: builds the codebooks from ``experts``, ``size`` and ``dim``.
        router: builds the router from ``dim`` and ``slots``.
        richness: how much an item's behavior has to say.
        align: contrastive terms.
        sparsity: builds the router's regularizer from ``slots``.
        straight_through: how gradients pass the quantizer.
        reconstruction: builds the reconstruction term from ``dims``.
        auxiliary: builds MMQ's auxiliary decoders from ``dims``, ``code`` and ``hidden``.
        orthogonality: MMQ's term between experts of a group.
        quantization: weight of the codebooks' own loss.
        revival_items: items sampled after each epoch to revive dead codewords from.
        fill_empty: whether to give every unused codeword an item at the end.

    Raises:
        UserError: slots or modalities that do not fit the data.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        modalities: Sequence[str] | None,
        slots: Mapping[str, int],
        size: int,
        width: Mapping[str, int],
        codebook: Callable[..., Codebook],
        router: Callable[..., Router],
        richness: Richness,
        align: Alignment | NoAlignment,
        sparsity: Callable[..., SparsityRegularizer | NoSparsity],
        straight_through: PerExpert | Fused,
        reconstruction: Callable[..., Reconstruction],
        auxiliary: Callable[..., AuxiliaryDecoders],
        orthogonality: Orthogonality,
        quantization: float,
        revival_items: int,
        fill_empty: bool,
    ) -> None:
        super().__init__(modalities=tuple(dims) if modalities is None else modalities, dims=dims)
        self.plan = plan_slots(slots, self.modalities)
        self.size, self.quantization = size, quantization
        self.revival_items, self.fill_empty = revival_items, fill_empty
        widths = Width(**width)
        behavior = self.plan[BEHAVIOR]
        self.mixture = Mixture(dims=self.dims, plan=self.plan, width=widths)
        self.router = router(dim=self.dims[BEHAVIOR], slots=behavior)
        self.codebook = codebook(experts=sum(self.plan.values()), size=size, dim=widths.code)
        self.decoder = MLP(widths=(widths.code, widths.hidden, sum(self.dims.values())))
        self.richness, self.align = richness, align
        self.straight_through, self.orthogonality = straight_through, orthogonality
        self.sparsity = sparsity(slots=behavior)
        self.reconstruction = reconstruction(dims=tuple(self.dims.values()))
        modelled = {name: dim for name, dim in self.dims.items() if name in self.plan}
        self.auxiliary = auxiliary(dims=modelled, code=widths.code, hidden=widths.hidden)

    @property
    def layout(self) -> SidLayout:
        names = tuple(group for group, count in self.plan.items() for _ in range(count))
        return SidLayout(sizes=(self.size,) * len(names), modalities=names, ordered=False)

    def view(self, items: ItemBatch) -> View:
        """Everything before quantization, with gradient."""
        inputs = self.standardize(items)
        richness = self.richness(items.features[BEHAVIOR], items.count)
        projections = self.mixture.project(inputs)
        routed = self.router(inputs[BEHAVIOR], richness)
        return View(
            inputs=inputs,
            richness=richness,
            projections=projections,
            latents=self.mixture.latents(inputs, projections),
            weights=torch.cat([*self.mixture.content_weights(inputs), routed], 1),
            routed=routed,
        )

    def losses(self, items: ItemBatch) -> dict[str, Tensor]:
        view = self.view(items)
        terms = self._coded_terms(view) if self.started else self._warmup_terms(view)
        terms |= self.align(view.projections, view.richness)
        terms |= self.orthogonality(self.mixture.first_weights())
        return terms

    def _warmup_terms(self, view: View) -> dict[str, Tensor]:
        """Quantization bypassed: the decoder receives the latents."""
        mixed = weighted_sum(self.codebook.project(view.latents), view.weights)
        return {"reconstruction": self._reconstruction_term(mixed, view)}

    def _coded_terms(self, view: View) -> dict[str, Tensor]:
        quantized = self.codebook(view.latents, view.weights > 0)
        mixed = self.straight_through(quantized, view.weights)
        terms = {
            "reconstruction": self._reconstruction_term(mixed, view),
            "quantization": self.quantization * quantized.loss,
        }
        terms |= self.sparsity(view.routed, view.richness)
        terms |= self.auxiliary(self._group_sums(quantized.straight, view.weights), view.inputs)
        return terms

    def _reconstruction_term(self, mixed: Tensor, view: View) -> Tensor:
        return self.reconstruction(self.decoder(mixed), torch.cat(tuple(view.inputs.values()), 1))

    def _group_sums(self, vectors: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Weighted codewords of each group, ``[items, code]`` by name."""
        counts = list(self.plan.values())
        parts = zip(self.plan, vectors.split(counts, 1), weights.split(counts, 1), strict=True)
        return {group: weighted_sum(part, weight) for group, part, weight in parts}

    @torch.no_grad()
    def encode(self, items: ItemBatch) -> Encoded:
        view = self.view(items)
        emitted = self._emitted(view)
        weights = torch.where(self._behavior_slots, view.weights, torch.ones_like(view.weights))
        codes = self.codebook.assign(view.latents)
        return Encoded(codes=codes.masked_fill(~emitted, PAD), weights=weights * emitted)

    @torch.no_grad()
    def reconstruct(self, items: ItemBatch) -> dict[str, Tensor]:
        view = self.view(items)
        words = self.codebook.lookup(self.codebook.assign(view.latents))
        decoded = self.decoder(weighted_sum(words, view.weights * self._emitted(view)))
        return dict(zip(self.dims, decoded.split(list(self.dims.values()), 1), strict=True))

    @torch.no_grad()
    def distances(self, items: ItemBatch) -> Tensor:
        return self.codebook.distances(self.view(items).latents)

    @torch.no_grad()
    def diagnostics(self, items: ItemBatch) -> dict[str, Tensor]:
        """Richness, strength of the alignment and number of behavior slots of every item."""
        view = self.view(items)
        return {
            "richness": view.richness,
            "align_weight": self.align.strength(view.richness),
            "behavior_slots": self.router.emitted(view.routed).sum(1),
        }

    def fit_statistics(self, items: ItemBatch) -> None:
        super().fit_statistics(items)
        self.richness.fit(items.features[BEHAVIOR], items.count)
        self.sparsity.fit(self.richness(items.features[BEHAVIOR], items.count))

    def start(self, items: ItemBatch) -> None:
        """K-means for every codebook on the latents of a sample of the catalogue."""
        generator = self.generator(0)
        latents, active = self._latents(sample_items(items, KMEANS_ROWS * self.size, generator))
        self.codebook.initialise(latents, active, generator)
        super().start(items)

    def after_step(self, step: int, total_steps: int) -> None:
        if self.started:
            self.sparsity.after_step(step, total_steps)

    def end_epoch(self, items: ItemBatch, step: int, total_steps: int) -> None:
        if not self.started or settling(step, total_steps):
            return
        generator = self.generator(step)
        latents, active = self._latents(sample_items(items, self.revival_items, generator))
        self.codebook.revive(latents, active, generator)

    def gauges(self) -> dict[str, Tensor]:
        return self.sparsity.gauges()

    def finalize(self, items: ItemBatch) -> None:
        if self.fill_empty:
            self.codebook.fill_empty(*self._latents(items))

    @torch.no_grad()
    def _latents(self, items: ItemBatch) -> tuple[Tensor, Tensor]:
        """Latents ``[items, slots, code]`` and which slots are on ``[items, slots]``, by chunks."""
        views = [self.view(part) for part in in_chunks(items, CHUNK)]
        return torch.cat([v.latents for v in views]), torch.cat([self._emitted(v) for v in views])

    def _emitted(self, view: View) -> Tensor:
        content = torch.ones_like(view.weights[:, : -self.plan[BEHAVIOR]], dtype=torch.bool)
        return torch.cat([content, self.router.emitted(view.routed)], 1)

    @property
    def _behavior_slots(self) -> Tensor:
        slots = [name == BEHAVIOR for name in self.layout.modalities]
        return torch.tensor(slots, device=self.seed.device)
