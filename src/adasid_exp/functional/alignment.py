"""How strongly the behavior of an item is aligned with its content (ADA-SID, arXiv 2510.25622, Eq. 14)."""

from __future__ import annotations

import torch
from torch import Tensor


def alignment_weight(richness: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Eq. 14: ``sigmoid(alpha * richness - beta) / sigmoid(alpha - beta)``.

    Args:
        richness: normalised information richness in ``[0, 1]``, ``[items]``.
        alpha: steepness; the weight rises with richness where it is positive.
        beta: richness ``beta / alpha`` is where the curve bends.

    Returns:
        ``[items]``, exactly 1 at richness 1.
    """
    ceiling = torch.sigmoid(torch.full((), alpha, dtype=richness.dtype, device=richness.device) - beta)
    return torch.sigmoid(richness * alpha - beta) / ceiling
