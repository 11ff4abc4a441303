"""Product quantization with a learnt rotation (OPQ: Ge, He, Ke and Sun, CVPR 2013)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adasid_exp.functional.kmeans import kmeans, lloyd


@dataclass(frozen=True, kw_only=True)
class ProductQuantizer:
    """What `optimized_product_quantizer` learns.

    Attributes:
        rotation: orthogonal ``R [dim, dim]``; a vector ``x`` is quantized as ``R x``.
        codewords: ``[slots, size, dim / slots]``.
        errors: mean squared error of the vectors after each alternation, float64; it does not grow.
    """

    rotation: Tensor
    codewords: Tensor
    errors: Tensor


def principal_axes(points: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The ``width`` directions in which centered ``points [rows, dim]`` vary most.

    Returns:
        Orthonormal columns ``[dim, width]`` in the points' type, and their variances, float64 ``[width]``,
        both in decreasing order.

    Raises:
        ValueError: when ``width`` exceeds ``dim``.
    """
    if width > points.shape[1]:
        raise ValueError(f"{width} principal axes of points {tuple(points.shape)}")
    values, vectors = torch.linalg.eigh((points.T @ points).double() / points.shape[0])
    return vectors.flip(1)[:, :width].to(points), values.flip(0)[:width].clamp(min=0.0)


def balanced_order(variances: Tensor, slots: int) -> Tensor:
    """Deals axes out to sub-spaces so that the products of their variances are alike (Ge et al., section 3.2).

    In decreasing order each axis goes to the sub-space with the smallest product that still has room.

    Args:
        variances: of the axes, decreasing, ``[dim]``.
        slots: number of sub-spaces; divides ``dim``.

    Returns:
        Axes of the first sub-space, then of the second, ..., int64 ``[dim]``.
    """
    room = variances.numel() // slots
    # Scaled so that no factor is below 1: else a product would shrink with each axis it takes.
    logs = variances.clamp(min=float(variances[0]) * 1e-12 + 1e-300).log()
    gains = (logs - logs.min()).tolist()
    axes: list[list[int]] = [[] for _ in range(slots)]
    products = [0.0] * slots
    for axis, gain in enumerate(gains):
        open_slots = [slot for slot in range(slots) if len(axes[slot]) < room]
        slot = min(open_slots, key=products.__getitem__)
        axes[slot].append(axis)
        products[slot] += gain
    return torch.tensor([axis for taken in axes for axis in taken], device=variances.device)


def procrustes(points: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The orthogonal ``R`` that brings ``R points`` closest to ``images``, both ``[rows, dim]``.

    Returns:
        ``R [dim, dim]`` in the points' type, and the sum of inner products it reaches, float64 scalar.
    """
    left, strengths, right = torch.linalg.svd((images.T @ points).double())
    return (left @ right).to(points), strengths.sum()


def product_kmeans(points: Tensor, *, slots: int, size: int, iterations: int, generator: torch.Generator) -> Tensor:
    """k-means in each of ``slots`` equal parts of ``points [rows, dim]``: ``[slots, size, dim / slots]``."""
    return torch.stack(
        [
            kmeans(part.contiguous(), size=size, iterations=iterations, generator=generator, spherical=False)
            for part in points.chunk(slots, dim=1)
        ]
    )


def optimized_product_quantizer(
    points: Tensor,
    *,
    slots: int,
    size: int,
    start_iterations: int,
    alternations: int,
    iterations: int,
    generator: torch.Generator,
) -> ProductQuantizer:
    """Rotation and codewords learnt in turn; ``points`` are expected in their `balanced_order`.

    Args:
        points: ``[rows, dim]``, ``dim`` a multiple of ``slots``.
        slots: sub-spaces.
        size: codewords of each.
        start_iterations: Lloyd steps before the first rotation, from a k-means++ start.
        alternations: rotations learnt; 0 gives plain product quantization. One sub-space is never rotated: that
            changes no distance.
        iterations: Lloyd steps after each rotation, from the codewords as they are.
        generator: of the start, on the CPU.
    """
    rotation = torch.eye(points.shape[1], dtype=points.dtype, device=points.device)
    codewords = product_kmeans(points, slots=slots, size=size, iterations=start_iterations, generator=generator)
    rotated, own, errors = points, points.double().square().sum(), []
    images = product_decode(codewords, product_distances(points, codewords).argmin(dim=2))
    for _ in range(alternations):
        if slots > 1:
            rotation, _ = procrustes(points, images)
            rotated = points @ rotation.T
        codewords, images = _refined(rotated, codewords, iterations)
        inner = (images.double() * rotated.double()).sum()
        errors.append((own + images.double().square().sum() - 2 * inner) / points.shape[0])
    kept = torch.stack(errors) if errors else own.new_zeros(0)
    return ProductQuantizer(rotation=rotation, codewords=codewords, errors=kept)


def product_distances(points: Tensor, codewords: Tensor) -> Tensor:
    """Squared distances in each sub-space less the point's own squared length.

    Args:
        points: ``[rows, dim]``.
        codewords: ``[slots, size, dim / slots]``.

    Returns:
        ``[rows, slots, size]``.
    """
    parts = points.unflatten(1, (codewords.shape[0], -1)).transpose(0, 1)
    lengths = codewords.square().sum(dim=2).unsqueeze(1)
    return torch.baddbmm(lengths, parts, codewords.transpose(1, 2), alpha=-2.0).transpose(0, 1)


def product_decode(codewords: Tensor, codes: Tensor) -> Tensor:
    """Codewords ``[slots, size, width]`` of ``codes [rows, slots]`` side by side, ``[rows, slots * width]``."""
    slots, size, _ = codewords.shape
    first = torch.arange(slots, device=codes.device) * size
    return codewords.flatten(0, 1)[codes + first].flatten(1)


def _refined(rotated: Tensor, codewords: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Lloyd steps in each sub-space: the codewords, and what they make of the points, ``[rows, dim]``."""
    words, images = [], []
    for part, book in zip(rotated.chunk(codewords.shape[0], dim=1), codewords, strict=True):
        centroids, codes = lloyd(part.contiguous(), book, iterations=iterations, spherical=False)
        words.append(centroids)
        images.append(centroids[codes])
    return torch.stack(words), torch.cat(images, dim=1)
