"""Reconstruction and alignment of autoencoders side by side (MME-SID, arXiv 2509.02017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from adasid_exp.functional.mmd import mmd
from adasid_exp.functional.ranks import gathered_together, mean_over_ranks
from adasid_exp.nn.losses.alignment import offered, two_way


class MatchedReconstruction(nn.Module):
    """Squared error item by item, and MMD between all that is decoded and all that was to be; weight 0: no term.

    MMD alone matches distributions: a decoder may permute the items at no loss.

    Args:
        squared_error, mmd: weights of the two in the total loss.
        items: of a batch that MMD compares, at most; its cost grows with their square. Batches are in random order.
    """

    def __init__(self, *, squared_error: float, mmd: float, items: int) -> None:
        super().__init__()
        self.squared_error, self.mmd, self.items = squared_error, mmd, items

    def forward(self, error: Tensor, decoded: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Terms by name, from the mean squared ``error`` and vectors ``[items, dim]`` by modality; mean over these."""
        terms = {"reconstruction": self.squared_error * error} if self.squared_error else {}
        if self.mmd:
            distances = mmds_over_ranks([(values, targets[name]) for name, values in decoded.items()], self.items)
            terms["mmd"] = self.mmd * torch.stack(distances).mean()
        return terms


class ContrastiveMatching(nn.Module):
    """Symmetric InfoNCE between an item's quantized behavior and each of its quantized contents.

    Args:
        temperature: divides the cosines.
        weight: of this term, beside a sum over modalities of their losses.
    """

    def __init__(self, *, temperature: float, weight: float) -> None:
        super().__init__()
        self.temperature, self.weight = temperature, weight

    def forward(self, behavior: Tensor, contents: Sequence[Tensor]) -> dict[str, Tensor]:
        """Term by name, from vectors ``[items, dim]``."""
        anchor, *others = offered(behavior, *contents)
        pairs = [mean_over_ranks(two_way(anchor, other, self.temperature)) for other in others]
        return summed("align_behavior", self.weight, pairs)


class MmdMatching(nn.Module):
    """MMD between the quantized behavior of a batch and each of its quantized contents, as in the official code.

    Args:
        weight: of this term, beside a sum over modalities of their losses.
    """

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, behavior: Tensor, contents: Sequence[Tensor]) -> dict[str, Tensor]:
        """Term by name, from vectors ``[items, dim]``."""
        pairs = mmds_over_ranks([(behavior, content) for content in contents], None)
        return summed("align_behavior", self.weight, pairs)


class NoMatching(nn.Module):
    """Nothing is said across modalities."""

    def forward(self, behavior: Tensor, contents: Sequence[Tensor]) -> dict[str, Tensor]:
        """No term."""
        return {}


def summed(name: str, weight: float, pairs: Sequence[Tensor]) -> dict[str, Tensor]:
    """The weighted sum over pairs by name, divided by the number of modalities, as all other terms are."""
    if not (weight and pairs):
        return {}
    return {name: weight * torch.stack(list(pairs)).sum() / (1 + len(pairs))}


def mmds_over_ranks(pairs: Sequence[tuple[Tensor, Tensor]], items: int | None) -> list[Tensor]:
    """MMD of all ranks' rows ``[items, dim]``, of the first ``items`` if a number is given; the same on each rank."""
    if not pairs:
        return []
    everyone, _ = gathered_together(*(view for pair in pairs for view in pair))
    return [mmd(left[:items], right[:items]) for left, right in zip(everyone[::2], everyone[1::2], strict=True)]
