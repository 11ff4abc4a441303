"""Contrastive alignment of content with content and of behavior with content (ADA-SID, Eq. 14 to 17)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from adasid_exp.functional.alignment import alignment_weight
from adasid_exp.functional.contrastive import info_nce, symmetric_info_nce
from adasid_exp.functional.ranks import gathered_together, mean_over_ranks, ranks


@dataclass(frozen=True, kw_only=True)
class Offered:
    """A view of items, as anchors and as candidates.

    Attributes:
        own: this rank's, ``[items, dim]``.
        everyone: all ranks', ``[candidates, dim]``.
        first: where the own ones begin among them.
    """

    own: Tensor
    everyone: Tensor
    first: int


Anchor = Callable[[Tensor, Offered, float], Tensor]
"""(behavior ``[items, dim]``, content, temperature) to a loss ``[items]``."""


class BehaviorAnchor(nn.Module):
    """Eq. 16: an item's behavior is to find its own content among the batch's."""

    def forward(self, behavior: Tensor, content: Offered, temperature: float) -> Tensor:
        return one_way(behavior, content, temperature)


class ContentAnchor(nn.Module):
    """The paper's third version: an item's content is to find its own behavior."""

    def forward(self, behavior: Tensor, content: Offered, temperature: float) -> Tensor:
        return one_way(content.own, offered(behavior)[0], temperature)


class BothAnchors(nn.Module):
    """Both directions, summed."""

    def forward(self, behavior: Tensor, content: Offered, temperature: float) -> Tensor:
        return two_way(offered(behavior)[0], content, temperature)


class ContentSum(nn.Module):
    """Behavior against the sum of the content modalities (Eq. 16)."""

    def __init__(self, *, anchor: Anchor) -> None:
        super().__init__()
        self.anchor = anchor

    def forward(self, behavior: Tensor, contents: Sequence[Offered], temperature: float) -> Tensor:
        """``[items, dim]`` each, to a loss ``[items]``."""
        return self.anchor(behavior, total(contents), temperature)


class Pairwise(nn.Module):
    """Behavior against every content modality on its own, summed (the paper's Fig. 2 and third version)."""

    def __init__(self, *, anchor: Anchor) -> None:
        super().__init__()
        self.anchor = anchor

    def forward(self, behavior: Tensor, contents: Sequence[Offered], temperature: float) -> Tensor:
        """``[items, dim]`` each, to a loss ``[items]``."""
        terms = [self.anchor(behavior, content, temperature) for content in contents]
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
        contents = offered(*(h for name, h in projections.items() if name != "behavior"))
        aligned = self.pairing(projections["behavior"], contents, self.temperature)
        terms = {"align_behavior": self.weight * mean_over_ranks(self.strength(richness) * aligned)}
        pairs = [two_way(a, b, self.temperature) for a, b in combinations(contents, 2)]
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


def offered(*views: Tensor) -> list[Offered]:
    """Views ``[items, dim]`` with the candidates of all ranks, exchanged together."""
    everyone, first = gathered_together(*views)
    return [Offered(own=own, everyone=rows, first=first) for own, rows in zip(views, everyone, strict=True)]


def total(views: Sequence[Offered]) -> Offered:
    """The sum of views."""
    own = torch.stack([view.own for view in views]).sum(0)
    everyone = own if ranks() == 1 else torch.stack([view.everyone for view in views]).sum(0)
    return Offered(own=own, everyone=everyone, first=views[0].first)


def one_way(anchor: Tensor, other: Offered, temperature: float) -> Tensor:
    """InfoNCE of ``anchor [items, dim]`` with the candidates of all ranks, ``[items]``."""
    return info_nce(anchor, other.everyone, temperature=temperature, first=other.first)


def two_way(left: Offered, right: Offered, temperature: float) -> Tensor:
    """Symmetric InfoNCE of two views with the candidates of all ranks, ``[items]``."""
    if ranks() == 1:
        return symmetric_info_nce(left.own, right.own, temperature=temperature)
    return one_way(left.own, right, temperature) + one_way(right.own, left, temperature)
