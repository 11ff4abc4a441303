"""How many behavior slots an item may use, and the pressure that holds it there (ADA-SID, Eq. 19 to 23).

The printed equations average the load over experts and know one strength for all items; :func:`expert_load`
is the per-expert load of ReMoE (arXiv 2412.14711) and :func:`printed_load` the formula as printed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adasid_exp.types import PAD


def target_sparsity(richness: Tensor, *, theta: Tensor, shape: Tensor) -> Tensor:
    """Eq. 22, ``theta * (1 - richness ** shape)``: the richer an item, the fewer of its slots are to be off.

    Args:
        richness: in ``[0, 1]``, ``[items]``.
        theta: the sparsity asked of an item of richness 0, scalar in ``[0, 1)``.
        shape: 1 is the paper's straight line; larger is more convex. Scalar.
    """
    return theta * (1 - richness**shape)


def expert_load(active: Tensor, target: Tensor) -> Tensor:
    """Use of every expert over the use it would have at target: 1 at target, above 1 where overused.

    ReMoE's f; Eq. 23 without its inner mean over experts.

    Args:
        active: which slots are on, ``[items, slots]`` (bool or float).
        target: target sparsity, ``[items]``.

    Returns:
        ``[slots]``.
    """
    return active.sum(0, dtype=target.dtype) / (1 - target).sum()


def item_load(active: Tensor, target: Tensor) -> Tensor:
    """:func:`expert_load` over every item's own target, ``[items, slots]``."""
    return active.to(target.dtype).mean(0) / (1 - target)[:, None]


def printed_load(active: Tensor, target: Tensor) -> Tensor:
    """Eq. 23 as printed: one scalar, so it favours no expert over another."""
    return active.to(target.dtype).mean() / (1 - target).mean()


def bucket_edges(richness: Tensor, buckets: int) -> Tensor:
    """The ``buckets - 1`` borders that cut richness into buckets of equal count (ties stay together)."""
    ordered = richness.sort().values
    cuts = torch.arange(1, buckets, device=richness.device) * ordered.numel() // buckets
    return ordered[cuts]


def bucket_sums(values: Tensor, bucket: Tensor, buckets: int) -> tuple[Tensor, Tensor]:
    """Sum of ``values`` and number of items of each bucket, both ``[buckets]``."""
    sums = torch.zeros(2, buckets, dtype=values.dtype, device=values.device)
    sums.index_add_(1, bucket, torch.stack((values, torch.ones_like(values))))
    return sums[0], sums[1]


def behavior_sum(codes: Tensor, weights: Tensor, modalities: Sequence[str]) -> tuple[float, int]:
    """Sum and number of the behavior slots' weights that count in their mean; those of parts may be added."""
    counted = weights[(codes != PAD) & _behavior(modalities, codes) & (weights > 0)]
    return float(counted.double().sum()), counted.numel()


def handover_weights(
    codes: Tensor,
    weights: Tensor,
    modalities: Sequence[str],
    *,
    ceiling: float = 4.0,
    mean: float | None = None,
) -> Tensor:
    """Slot weights as downstream models take them: behavior weights are brought to mean 1 over the catalogue.

    1 on shared and content slots, ``R / mean(R)`` clipped to ``[0, ceiling]`` on behavior slots, 0 on ``PAD``.

    Args:
        codes: SIDs, int64 ``[items, slots]``.
        weights: what the router gave, float32 ``[items, slots]``.
        modalities: what each slot speaks of.
        ceiling: largest weight handed on.
        mean: mean(R) over the catalogue, where ``codes`` are a part of it; None: ``codes`` are the whole.
    """
    if mean is None:
        total, number = behavior_sum(codes, weights, modalities)
        mean = total / number if number else 1.0
    scaled = (weights / torch.tensor(mean, dtype=weights.dtype, device=weights.device)).clamp(0.0, ceiling)
    return torch.where(_behavior(modalities, codes), scaled, torch.ones_like(weights)) * (codes != PAD)


def _behavior(modalities: Sequence[str], like: Tensor) -> Tensor:
    return torch.tensor([name == "behavior" for name in modalities], device=like.device)
