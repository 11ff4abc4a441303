"""Standardisation of embedding columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLAT = 1e-6
"""A column whose standard deviation is below this share of its size is constant up to rounding."""


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
    chosen = values[rows]
    if chosen.shape[0] == 0:
        raise ValueError(f"no row to take moments of: values {tuple(values.shape)}, all rows masked")
    std, mean = torch.std_mean(chosen, dim=0, correction=0)
    flat = std <= FLAT * mean.abs().clamp(min=FLAT)
    return Moments(mean=mean, std=std.masked_fill(flat, 1.0))


def z_score(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """``(values - mean) / std`` by column, ``[items, dim]``."""
    return (values - mean) / std
