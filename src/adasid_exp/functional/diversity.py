"""LETTER's diversity term: codewords are to be near those of their cluster and far from all others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cluster_partners(codes: Tensor, clusters: Tensor, draws: Tensor) -> Tensor:
    """Another code of the same cluster for each code, uniform among them; the code itself where it is alone.

    Args:
        codes: int64 ``[items, levels]``.
        clusters: cluster of each code, int64 ``[levels, size]``.
        draws: uniform in ``[0, 1)``, ``[items, levels]``.

    Returns:
        int64 ``[items, levels]``.
    """
    own, other = clusters.unsqueeze(2), clusters.unsqueeze(1)
    order = clusters.argsort(dim=1, stable=True)
    members, first = (own == other).sum(dim=2), (own > other).sum(dim=2)
    position = order.argsort(dim=1)
    at = codes.T
    members, first, position = (table.gather(1, at) for table in (members, first, position))
    step = 1 + (draws.T * (members - 1)).long()
    return order.gather(1, first + (position - first + step) % members).T


def diversity_loss(words: Tensor, codes: Tensor, partners: Tensor) -> Tensor:
    """Cross entropy of each item's codeword with its partner among all other codewords, by inner product.

    An item whose code has no partner counts 0.

    Args:
        words: ``[levels, size, dim]``.
        codes, partners: int64 ``[items, levels]``.

    Returns:
        ``[levels, items]``.
    """
    levels, size, _ = words.shape
    own = torch.eye(size, dtype=torch.bool, device=words.device)
    logits = torch.bmm(words, words.transpose(1, 2))
    logits = logits.masked_fill(own, torch.finfo(logits.dtype).min)
    chances = F.log_softmax(logits, dim=2).view(levels, size * size)
    chosen = chances.gather(1, (codes * size + partners).T)
    return -torch.where((codes != partners).T, chosen, 0.0)
