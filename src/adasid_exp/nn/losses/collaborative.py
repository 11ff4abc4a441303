"""LETTER's collaborative regularization (arXiv 2405.07314, Eq. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adasid_exp.functional.ranks import gathered_together, ratio_to_total


class Collaborative(nn.Module):
    """An item's latent is to find the item's own behavior among the batch's, by inner product. With weight 0 no term.

    Behavior vectors are taken as they are, neither standardised nor trained. Where their width is not the latent's,
    a linear map without bias (which the softmax would cancel) brings them to it.

    Args:
        latent: width of a latent.
        behavior: width of a behavior vector.
        weight: of this term in the total loss.
    """

    def __init__(self, *, latent: int, behavior: int, weight: float) -> None:
        super().__init__()
        self.weight = weight
        needed = bool(weight) and latent != behavior
        self.projection = nn.Linear(behavior, latent, bias=False) if needed else nn.Identity()

    def forward(self, latents: Tensor, behavior: Tensor, seen: Tensor) -> dict[str, Tensor]:
        """Term by name, from ``latents [items, latent]`` and ``behavior [items, behavior]``.

        An item without interactions has no behavior: where ``seen [items]`` is false it is neither asked nor offered.
        """
        (candidates, offered), first = gathered_together(self.projection(behavior), seen)
        return {"collaborative": self.weight * collaborative_loss(latents, candidates, seen, offered, first)}


def collaborative_loss(latents: Tensor, candidates: Tensor, asked: Tensor, offered: Tensor, first: int) -> Tensor:
    """Cross entropy of latents ``[items, dim]`` with candidate ``first + i`` of ``[candidates, dim]``; a scalar.

    Mean over the rows of all ranks that are ``asked [items]``, against candidates that are ``offered [candidates]``:
    the rows that some rank asks.
    """
    closed = torch.where(offered, 0.0, torch.finfo(latents.dtype).min / 2).to(latents.dtype)
    logits = torch.addmm(closed, latents, candidates.T)
    positives = first + torch.arange(len(latents), device=latents.device)
    losses = F.cross_entropy(logits, positives, reduction="none")
    return ratio_to_total(torch.where(asked, losses, 0.0).sum(), offered.sum())
