"""Contrastive alignment of content with content and of behavior with content (ADA-SID, Eq. 14 to 17)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from adasid_exp.functional.alignment import alignment_weight
from adasid_exp.functional.contrastive import info_nce, symmetric_info_nce
from adasid_exp.functional.ranks import gathered, mean_over_ranks, ranks

Anchor = Callable[[Tensor, Tensor, float], Tensor]
"""(behavior ``[items, dim]``, content ``[items, dim]``, temperature) to a loss ``[items]``."""


class BehaviorAnchor(nn.Module):
    """Eq. 16: an item's behavior is to find its own content among the batch's."""

    def forward(self, behavior: Tensor, content: Tensor, temperature: float) -> Tensor:
        return one_way(behavior, content, temperature)


class ContentAnchor(nn.Module):
    """The paper's third version: an item's content is to find its own behavior."""

    def forward(self, behavior: Tensor, content: Tensor, temperature: float) -> Tensor:
        return one_way(content, behavior, temperature)


class BothAnchors(nn.Module):
    """Both directions, summed."""

    def forward(self, behavior: Tensor, content: Tensor, temperature: float) -> Tensor:
        return two_way(behavior, content, temperature)


class ContentSum(nn.Module):
    """Behavior against the sum of the content modalities (Eq. 16)."""

    def __init__(self, *, anchor: Anchor) -> None:
        super().__init__()
        self.anchor = anchor

    def forward(self, behavior: Tensor, contents: Mapping[str, Tensor], temperature: float) -> Tensor:
        """``[items, dim]`` each, to a loss ``[items]``."""
        return self.anchor(behavior, torch.stack(tuple(contents.values())).sum(0), temperature)


class Pairwise(nn.Module):
    """Behavior against every content modality on its own, summed (the paper's Fig. 2 and third version)."""

    def __init__(self, *, anchor: Anchor) -> None:
        super().__init__()
        self.anchor = anchor

    def forward(self, behavior: Tensor, contents: Mapping[str, Tensor], temperature: float) -> Tensor:
        """``[items, dim]`` each, to a loss ``[items]``."""
        terms = [self.anchor(behavior, content, temperature) for content in contents.values()]
        return torch.stack(terms).sum(0)


class Alignment(nn.Module, ABC):
    """Content with content, and behavior with content as strongly as an item's richness says (Eq. 17).

    Args:
        temperature: divides the cosines.
        weight: of this term in the total loss.
        pairing: which behavior-content pairs are formed.
    """

    def __init__(self, *, temperature: float, weight: float, pairing: nn.Module) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight = weight
        self.pairing = pairing

    @abstractmethod
    def strength(self, richness: Tensor) -> Tensor:
        """Weight of each item's behavior-content term, ``[items]``."""

    def forward(self, projections: Mapping[str, Tensor], richness: Tensor) -> dict[str, Tensor]:
        """Weighted terms by name.

        Args:
            projections: h ``[items, dim]`` of ``behavior`` and of every content modality.
            richness: in ``[0, 1]``, ``[items]``.
        """
        contents = {name: h for name, h in projections.items() if name != "behavior"}
        aligned = self.pairing(projections["behavior"], contents, self.temperature)
        terms = {"align_behavior": self.weight * mean_over_ranks(self.strength(richness) * aligned)}
        pairs = [two_way(a, b, self.temperature) for a, b in combinations(contents.values(), 2)]
        if pairs:
            terms["align_content"] = self.weight * mean_over_ranks(torch.stack(pairs).sum(0))
        return terms


class AdaptiveAlignment(Alignment):
    """With the alignment strength controller (Eq. 14).

    Args:
        alpha, beta: shape of the controller's curve over richness.
    """

    def __init__(self, *, alpha: float, beta: float, temperature: float, weight: float, pairing: nn.Module) -> None:
        super().__init__(temperature=temperature, weight=weight, pairing=pairing)
        self.alpha = alpha
        self.beta = beta

    def strength(self, richness: Tensor) -> Tensor:
        return alignment_weight(richness, alpha=self.alpha, beta=self.beta)


class UniformAlignment(Alignment):
    """Without the controller: every item's behavior is aligned alike."""

    def strength(self, richness: Tensor) -> Tensor:
        return torch.ones_like(richness)


class NoAlignment(nn.Module):
    """No contrastive term at all."""

    def strength(self, richness: Tensor) -> Tensor:
        """Zeros ``[items]``."""
        return torch.zeros_like(richness)

    def forward(self, projections: Mapping[str, Tensor], richness: Tensor) -> dict[str, Tensor]:
        """No term."""
        return {}


def one_way(anchor: Tensor, other: Tensor, temperature: float) -> Tensor:
    """InfoNCE of ``anchor [items, dim]`` with the candidates of all ranks, ``[items]``."""
    candidates, first = gathered(other)
    return info_nce(anchor, candidates, temperature=temperature, first=first)


def two_way(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE of two views ``[items, dim]`` with the candidates of all ranks, ``[items]``."""
    if ranks() == 1:
        return symmetric_info_nce(left, right, temperature=temperature)
    return one_way(left, right, temperature) + one_way(right, left, temperature)
