"""How well SIDs use their codes and tell items apart.

``codes`` are int64 ``[items, slots]``; ``PAD`` marks a slot that an item does not use. ``counts`` are what
``code_counts`` gives, so that counts of several batches or processes may be added.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adasid_exp.types import PAD

KEY_LIMIT = 2**62
"""Packed SIDs stay below this, so that int64 does not overflow."""


def code_counts(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Items that use each code, PAD excluded, int64 ``[slots, max(sizes)]``.

    Raises:
        ValueError: for a code outside its codebook.
    """
    slots, width = len(sizes), max(sizes)
    limits = torch.tensor(sizes, device=codes.device)
    if codes.shape[1] != slots or bool(((codes < PAD) | (codes >= limits)).any()):
        raise ValueError(f"codes {tuple(codes.shape)} do not fit codebooks of sizes {list(sizes)}")
    # One column more than codes per slot takes the PADs.
    flat = (codes + 1 + (width + 1) * torch.arange(slots, device=codes.device)).reshape(-1)
    return torch.bincount(flat, minlength=slots * (width + 1)).view(slots, width + 1)[:, 1:]


def token_entropy(counts: Tensor) -> Tensor:
    """Entropy of each slot's code distribution in nats, float64 ``[slots]``; at most ln(size).

    A slot that no item uses has entropy 0.
    """
    chances = counts / counts.sum(dim=1, keepdim=True).clamp(min=1).double()
    return -torch.special.xlogy(chances, chances).sum(dim=1)


def perplexity(counts: Tensor) -> Tensor:
    """Effective number of codes of each slot, ``exp(entropy)``, float64 ``[slots]``."""
    return token_entropy(counts).exp()


def utilisation(counts: Tensor, sizes: Sequence[int]) -> Tensor:
    """Share of each slot's codes that at least one item uses, float64 ``[slots]``."""
    return (counts > 0).sum(dim=1) / torch.tensor(sizes, device=counts.device, dtype=torch.float64)


def dead_codes(counts: Tensor, sizes: Sequence[int]) -> Tensor:
    """Codes of each slot that no item uses, int64 ``[slots]``."""
    return torch.tensor(sizes, device=counts.device) - (counts > 0).sum(dim=1)


def gini(counts: Tensor, sizes: Sequence[int]) -> Tensor:
    """Gini coefficient of the use of each slot's codes, unused ones included, float64 ``[slots]``.

    0 where all codes are used alike, ``1 - 1/size`` where one takes all; 0 for a slot that no item uses.
    """
    ordered, width = counts.sort(dim=1).values.double(), counts.shape[1]
    size = torch.tensor(sizes, device=counts.device)[:, None]
    # Columns beyond a slot's own codes are zeros and come first: they shift the ranks and add nothing.
    rank = torch.arange(1, width + 1, device=counts.device) - (width - size)
    total = ordered.sum(dim=1).clamp(min=1)
    return ((2 * rank - size - 1) * ordered).sum(dim=1) / (size.squeeze(1) * total)


def active_length(codes: Tensor) -> Tensor:
    """Slots that each item uses, int64 ``[items]``."""
    return (codes != PAD).sum(dim=1)


def sid_groups(codes: Tensor) -> Tensor:
    """Group number of each item, int64 ``[items]``: equal for equal SIDs (PADs included), ordered by SID."""
    key = codes.new_zeros(codes.shape[0], dtype=torch.int64)
    bound = 1
    for column in codes.T:  # in place: nothing but the key has the length of the catalogue and 64 bits
        width = int(column.max()) + 2 if column.numel() else 1
        if bound * width > KEY_LIMIT:
            key = key.unique(return_inverse=True)[1]
            bound = codes.shape[0]
        key.mul_(width).add_(column).sub_(PAD)
        bound *= width
    return key.unique(return_inverse=True)[1]


def group_sizes(codes: Tensor) -> Tensor:
    """Items of each distinct SID, int64 ``[distinct]``."""
    return torch.bincount(sid_groups(codes))


def unique_rate(codes: Tensor) -> Tensor:
    """Distinct SIDs over items, float64 scalar."""
    return torch.tensor(group_sizes(codes).numel() / max(1, codes.shape[0]), dtype=torch.float64)


def collision_rate(codes: Tensor) -> Tensor:
    """``1 - unique_rate``, float64 scalar."""
    return 1.0 - unique_rate(codes)


def max_collision(codes: Tensor) -> Tensor:
    """Items that share the most crowded SID, int64 scalar."""
    return group_sizes(codes).max()
