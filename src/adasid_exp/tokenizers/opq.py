"""OPQ: rotated embeddings, each part quantized on its own (Ge et al. 2013; RPG, arXiv 2506.05781)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adasid_exp.functional.product_quantization import (
    balanced_order,
    optimized_product_quantizer,
    principal_axes,
    product_decode,
    product_distances,
)
from adasid_exp.tokenizers.base import Encoded, SidLayout, Tokenizer, sample_items
from adasid_exp.types import ItemBatch, UserError

ROWS = 256
"""Items per code that are learnt from, as faiss does: more cost time and hardly lower the error."""


class Opq(Tokenizer):
    """Embeddings in (side by side when there are several), one code a sub-space out, in no order.

    Learns in closed form: standardised embeddings, their leading principal axes, a rotation of these, and k-means
    in each sub-space. The part of an embedding outside the principal axes is reconstructed as its mean.

    Args:
        dims: width of every embedding the data has, by name.
        modalities: the embeddings that are read and reconstructed.
        length: sub-spaces, which is the length of a SID.
        size: codewords of a sub-space; any number.
        subspace: widest a sub-space may be; narrower where the embeddings have fewer axes to share out.
        start_iterations: Lloyd steps before the first rotation.
        alternations: rotations learnt; 0 is plain product quantization of the principal axes.
        iterations: Lloyd steps after each rotation.

    Raises:
        UserError: when the embeddings are narrower than ``length``.
    """

    axes: Tensor
    rotation: Tensor
    codewords: Tensor
    errors: Tensor

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        modalities: Sequence[str],
        length: int,
        size: int,
        subspace: int,
        start_iterations: int,
        alternations: int,
        iterations: int,
    ) -> None:
        super().__init__(modalities=modalities, dims=dims)
        inputs = sum(self.dims.values())
        if inputs < length:
            raise UserError(
                f"tokenizer.length={length}: {', '.join(self.modalities)} have {inputs} dimensions, too few to give"
                " each code its own; shorten scale.length or name more in tokenizer.modalities"
            )
        part = min(subspace, inputs // length)
        self.length, self.size = length, size
        self.start_iterations, self.alternations, self.iterations = start_iterations, alternations, iterations
        self.register_buffer("axes", torch.eye(inputs, part * length))
        self.register_buffer("rotation", torch.eye(part * length))
        self.register_buffer("codewords", torch.zeros(length, size, part))
        self.register_buffer("errors", torch.zeros(alternations, dtype=torch.float64))

    @property
    def layout(self) -> SidLayout:
        return SidLayout(
            sizes=(self.size,) * self.length,
            modalities=("+".join(self.modalities),) * self.length,
            ordered=False,
        )

    @torch.no_grad()
    def fit_statistics(self, items: ItemBatch) -> None:
        super().fit_statistics(items)
        generator = self.generator(0)
        inputs = self.inputs(sample_items(items, ROWS * self.size, generator))
        axes, variances = principal_axes(inputs, self.axes.shape[1])
        axes = axes[:, balanced_order(variances, self.length)]
        learnt = optimized_product_quantizer(
            inputs @ axes,
            slots=self.length,
            size=self.size,
            start_iterations=self.start_iterations,
            alternations=self.alternations,
            iterations=self.iterations,
            generator=generator,
        )
        self.axes.copy_(axes)
        self.rotation.copy_(learnt.rotation)
        self.codewords.copy_(learnt.codewords)
        self.errors.copy_(learnt.errors)

    @torch.no_grad()
    def encode(self, items: ItemBatch) -> Encoded:
        codes = self.distances(items).argmin(dim=2)
        return Encoded(codes=codes, weights=torch.ones(codes.shape, device=codes.device))

    @torch.no_grad()
    def distances(self, items: ItemBatch) -> Tensor:
        return product_distances(self.inputs(items) @ self.axes @ self.rotation.T, self.codewords)

    @torch.no_grad()
    def reconstruct(self, items: ItemBatch) -> dict[str, Tensor]:
        rotated = product_decode(self.codewords, self.encode(items).codes)
        parts = (rotated @ self.rotation @ self.axes.T).split(list(self.dims.values()), dim=1)
        return dict(zip(self.modalities, parts, strict=True))

    def inputs(self, items: ItemBatch) -> Tensor:
        """Standardised embeddings side by side, ``[items, inputs]``."""
        targets = self.targets(items)
        return torch.cat([targets[name] for name in self.modalities], dim=1)
