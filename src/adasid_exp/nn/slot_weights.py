"""How much each slot of a SID counts for a model that learns to predict it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from adasid_exp.types import PAD, SidTable

BEHAVIOR = "behavior"


class SlotWeights(ABC):
    """Weights of the slots in use."""

    @abstractmethod
    def __call__(self, sids: SidTable) -> Tensor:
        """Float32 ``[items, slots]``, 0 at PAD."""


class EqualWeights(SlotWeights):
    """Every slot in use counts the same."""

    def __call__(self, sids: SidTable) -> Tensor:
        return (sids.codes != PAD).float()


class ArtifactWeights(SlotWeights):
    """The weights that came with the SIDs; behavior slots over their catalogue mean, and capped.

    Args:
        cap: largest weight of a behavior slot, in multiples of the mean positive one.
    """

    def __init__(self, *, cap: float) -> None:
        self.cap = cap

    def __call__(self, sids: SidTable) -> Tensor:
        behavior = torch.tensor([name == BEHAVIOR for name in sids.modalities], device=sids.codes.device)
        weights = sids.weights * (sids.codes != PAD)
        positive = weights[:, behavior]
        mean = positive.sum() / (positive > 0).sum().clamp(min=1)
        scaled = (weights / mean.clamp(min=torch.finfo(torch.float32).tiny)).clamp(max=self.cap)
        return torch.where(behavior, scaled, weights)


class PadPolicy(ABC):
    """What a slot that an item does not use means to a model that predicts slots."""

    @abstractmethod
    def predicted(self, codes: Tensor) -> Tensor:
        """Which slots have PAD as a class of their own, bool ``[slots]``, given ``[items, slots]`` codes."""

    @abstractmethod
    def target_weights(self, codes: Tensor, weights: Tensor) -> Tensor:
        """Loss weights of each item's slots as a target, ``[items, slots]``."""

    @abstractmethod
    def score_weights(self, codes: Tensor) -> Tensor | None:
        """Factors of the slots' log-probabilities in an item's score, ``[items, slots]``; None for all
        ones."""


class PredictPad(PadPolicy):
    """PAD is a class, so that items of different length have comparable scores.

    Args:
        share: loss weight of a PAD target, in multiples of the mean positive weight; 0 would leave it
        unlearned.
    """

    def __init__(self, *, share: float) -> None:
        self.share = share

    def predicted(self, codes: Tensor) -> Tensor:
        return (codes == PAD).any(0)

    def target_weights(self, codes: Tensor, weights: Tensor) -> Tensor:
        mean = weights.sum() / (weights > 0).sum().clamp(min=1)
        return torch.where(codes == PAD, self.share * mean, weights)

    def score_weights(self, codes: Tensor) -> Tensor | None:
        return None


class MaskPad(PadPolicy):
    """PAD slots count neither in the loss nor in the score, which is the mean over the slots in use."""

    def predicted(self, codes: Tensor) -> Tensor:
        return torch.zeros(codes.shape[1], dtype=torch.bool, device=codes.device)

    def target_weights(self, codes: Tensor, weights: Tensor) -> Tensor:
        return weights * (codes != PAD)

    def score_weights(self, codes: Tensor) -> Tensor | None:
        used = (codes != PAD).float()
        if bool((used.sum(1) == 0).any()):
            raise ValueError(f"an item of the {tuple(codes.shape)} codes uses no slot: its mean has no terms")
        return used / used.sum(1, keepdim=True)
