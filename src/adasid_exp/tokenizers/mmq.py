"""MMQ, ADA-SID's first version (arXiv 2508.15281): parallel codes of content from shared and specific experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adasid_exp.nn.experts import ExpertGroup, Gates
from adasid_exp.nn.losses.auxiliary import AuxiliaryDecoders, Orthogonality
from adasid_exp.nn.losses.reconstruction import Reconstruction
from adasid_exp.nn.mlp import MLP
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.nn.straight_through import Fused, PerExpert, weighted_sum
from adasid_exp.tokenizers.base import Encoded, SidLayout, TrainableTokenizer, in_chunks, sample_items, settling
from adasid_exp.types import ItemBatch, UserError

SHARED, SPECIFIC = "shared", "specific"
START_ROWS = 256
"""Items per codeword that k-means starts from, at most."""
CHUNK = 8192
"""Items looked at together when the whole catalogue passes."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A batch before quantization: z of every slot ``[items, slots, code]`` and its weight ``[items, slots]``."""

    latents: Tensor
    weights: Tensor


class Mmq(TrainableTokenizer):
    """Shared experts see all modalities side by side, specific experts one each; softmax gates weigh the latter.

    Args:
        modalities: the embeddings that are read, in SID order.
        dims: width of every embedding the data has, by name.
        slots: ``shared`` slots, and ``specific`` slots of each modality.
        size: codewords of each slot.
        width: ``hidden``, ``latent`` (the gates' hidden layer) and ``code`` widths.
        codebook: builds the codebooks from ``experts``, ``size`` and ``dim``.
        straight_through: how gradients pass the quantizer.
        reconstruction: builds the reconstruction term from ``dims``.
        auxiliary: builds the auxiliary decoders from ``dims``, ``code`` and ``hidden``.
        quantization: weight of the codebooks' own loss.
        orthogonality: the term between experts of a group.
        revival_items: items sampled after each epoch to revive dead codewords from.
        fill_empty: whether to give every unused codeword an item at the end.

    Raises:
        UserError: a group without a slot.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        dims: Mapping[str, int],
        slots: Mapping[str, int],
        width: Mapping[str, int],
        size: int,
        codebook: Callable[..., Codebook],
        reconstruction: Callable[..., Reconstruction],
        straight_through: PerExpert | Fused,
        auxiliary: Callable[..., AuxiliaryDecoders],
        quantization: float,
        orthogonality: Orthogonality,
        revival_items: int,
        fill_empty: bool,
    ) -> None:
        super().__init__(modalities=modalities, dims=dims)
        if min(slots[SHARED], slots[SPECIFIC]) < 1:
            raise UserError(f"tokenizer.slots: {dict(slots)} must give shared and specific at least 1 slot each")
        self.size, self.quantization = size, quantization
        self.revival_items, self.fill_empty = revival_items, fill_empty
        self.plan = {SHARED: slots[SHARED], **dict.fromkeys(self.dims, slots[SPECIFIC])}
        self.experts = self._experts(width)
        self.gates = nn.ModuleDict(
            {name: Gates(dim=dim, hidden=width["latent"], experts=self.plan[name]) for name, dim in self.dims.items()}
        )
        self.codebook = codebook(experts=sum(self.plan.values()), size=size, dim=width["code"])
        self.decoder = MLP(widths=(width["code"], width["hidden"], sum(self.dims.values())))
        self.reconstruction = reconstruction(dims=tuple(self.dims.values()))
        self.auxiliary = auxiliary(dims=self.dims, code=width["code"], hidden=width["hidden"])
        self.straight_through, self.orthogonality = straight_through, orthogonality

    def _experts(self, width: Mapping[str, int]) -> nn.ModuleDict:
        inputs = {SHARED: sum(self.dims.values()), **self.dims}
        return nn.ModuleDict(
            {
                group: ExpertGroup(dim=inputs[group], hidden=width["hidden"], code=width["code"], experts=count)
                for group, count in self.plan.items()
            }
        )

    @property
    def layout(self) -> SidLayout:
        groups = tuple(group for group, count in self.plan.items() for _ in range(count))
        return SidLayout(sizes=(self.size,) * len(groups), modalities=groups, ordered=False)

    def see(self, inputs: Mapping[str, Tensor]) -> Seen:
        """Everything before quantization, with gradient, from standardised embeddings."""
        together = torch.cat(tuple(inputs.values()), 1)
        views = {SHARED: together, **inputs}
        shared = together.new_ones(together.shape[0], self.plan[SHARED])
        return Seen(
            latents=torch.cat([experts(views[group]) for group, experts in self.experts.items()], 1),
            weights=torch.cat([shared, *(gates(inputs[name]) for name, gates in self.gates.items())], 1),
        )

    def losses(self, items: ItemBatch) -> dict[str, Tensor]:
        inputs = self.targets(items)
        seen = self.see(inputs)
        terms = self.orthogonality([group.first_weights() for group in self.experts.values()])  # type: ignore[operator]
        if not self.started:
            mixed = weighted_sum(self.codebook.project(seen.latents), seen.weights)
        else:
            quantized = self.codebook(seen.latents)
            mixed = self.straight_through(quantized, seen.weights)
            terms["quantization"] = self.quantization * quantized.loss
            terms |= self.auxiliary(self._by_modality(quantized.straight, seen.weights), inputs)
        terms["reconstruction"] = self.reconstruction(self.decoder(mixed), torch.cat(tuple(inputs.values()), 1))
        return terms

    def _by_modality(self, vectors: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Weighted codewords of each modality's own slots, ``[items, code]`` by name."""
        counts = list(self.plan.values())
        sums = map(weighted_sum, vectors.split(counts, 1), weights.split(counts, 1))
        return {group: total for group, total in zip(self.plan, sums, strict=True) if group != SHARED}

    @torch.no_grad()
    def encode(self, items: ItemBatch) -> Encoded:
        codes = self.codebook.assign(self.see(self.targets(items)).latents)
        return Encoded(codes=codes, weights=torch.ones(codes.shape, device=codes.device))

    @torch.no_grad()
    def distances(self, items: ItemBatch) -> Tensor:
        return self.codebook.distances(self.see(self.targets(items)).latents)

    @torch.no_grad()
    def reconstruct(self, items: ItemBatch) -> dict[str, Tensor]:
        seen = self.see(self.targets(items))
        words = self.codebook.lookup(self.codebook.assign(seen.latents))
        blocks = self.decoder(weighted_sum(words, seen.weights)).split(list(self.dims.values()), 1)
        return dict(zip(self.dims, blocks, strict=True))

    @torch.no_grad()
    def start(self, items: ItemBatch) -> None:
        generator = self.generator(0)
        sample = sample_items(items, START_ROWS * self.size, generator)
        self.codebook.initialise(self._latents(sample), None, generator)
        super().start(items)

    @torch.no_grad()
    def end_epoch(self, items: ItemBatch, step: int, total_steps: int) -> None:
        if self.started and not settling(step, total_steps):
            generator = self.generator(step)
            sample = sample_items(items, self.revival_items, generator)
            self.codebook.revive(self._latents(sample), None, generator)

    @torch.no_grad()
    def finalize(self, items: ItemBatch) -> None:
        if self.fill_empty:
            self.codebook.fill_empty(self._latents(items), None)

    def _latents(self, items: ItemBatch) -> Tensor:
        """Latents ``[items, slots, code]``, by chunks."""
        return torch.cat([self.see(self.targets(part)).latents for part in in_chunks(items, CHUNK)])
