"""Standardisation of embedding columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLAT = 1e-6
"""A column whose standard deviation is below this share of its size is constant up to rounding."""

BLOCK = 2**17
"""Rows that are copied at once: those of a larger catalogue are looked at block by block."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and standard deviation of each column, float32 ``[dim]``; a constant column has deviation 1."""

    mean: Tensor
    std: Tensor


def column_moments(values: Tensor, rows: Tensor) -> Moments:
    """Moments of ``values [items, dim]`` over the rows where ``rows [items]`` (bool) is true.

    Raises:
        ValueError: when no row is true.
    """
    seen = int(rows.sum())
    if not seen:
        raise ValueError(f"no row to take moments of: values {tuple(values.shape)}, all rows masked")
    mean, std = _moments(values, rows) if len(values) <= BLOCK else _moments_by_block(values, rows, seen)
    flat = std <= FLAT * mean.abs().clamp(min=FLAT)
    return Moments(mean=mean, std=std.masked_fill(flat, 1.0))


def _moments(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column."""
    std, mean = torch.std_mean(values[rows], dim=0, correction=0)
    return mean, std


def _moments_by_block(values: Tensor, rows: Tensor, seen: int) -> tuple[Tensor, Tensor]:
    """`_moments` without a copy of all chosen rows: those of blocks put together (Chan, Golub & LeVeque 1979)."""
    blocks = [(part, mask) for part, mask in zip(values.split(BLOCK), rows.split(BLOCK), strict=True) if mask.any()]
    moments = [_moments(part, mask) for part, mask in blocks]
    share = torch.stack([mask.sum() for _, mask in blocks]).double().unsqueeze(1) / seen
    means, stds = (torch.stack(each).double() for each in zip(*moments, strict=True))
    mean = (share * means).sum(dim=0)
    variance = (share * (stds.square() + (means - mean).square())).sum(dim=0)
    return mean.to(values.dtype), variance.sqrt().to(values.dtype)


def z_score(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """``(values - mean) / std`` by column, ``[items, dim]``."""
    return (values - mean).div_(std)  # in place: a second copy of a catalogue's rows costs as much as the arithmetic
