"""Information richness of an item's behavior embedding (ADA-SID, arXiv 2510.25622, Eq. 12 and 13)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adasid_exp.functional.richness import fractional_rank, rescale, spearman
from adasid_exp.types import UserError

MIN_CORRELATION = 0.2


class L2Norm(nn.Module):
    """The norm of the raw behavior embedding, the paper's source.

    It tells rich from poor only where training makes norms grow with popularity, which SASRec with uniform
    negatives or full softmax does not.
    """

    def forward(self, behavior: Tensor, count: Tensor) -> Tensor:
        """Raw embeddings ``[items, dim]`` and counts ``[items]`` to ``[items]``."""
        return torch.linalg.vector_norm(behavior, dim=1)


class LogCount(nn.Module):
    """``log(1 + count)``: the number of training interactions, what the norm is meant to stand for."""

    def forward(self, behavior: Tensor, count: Tensor) -> Tensor:
        """Raw embeddings ``[items, dim]`` and counts ``[items]`` to ``[items]``."""
        return count.double().log1p().to(behavior.dtype)  # double: equal counts stay equal in any batch


class Normalizer(nn.Module, ABC):
    """Brings a richness source to ``[0, 1]`` by what it saw of the whole catalogue."""

    @abstractmethod
    def fit(self, values: Tensor) -> None:
        """Remember what is needed of the catalogue's values ``[items]``."""

    @abstractmethod
    def forward(self, values: Tensor) -> Tensor:
        """``[items]`` to ``[items]`` in ``[0, 1]``, also for items ``fit`` has not seen."""


class MinMax(Normalizer):
    """Eq. 13 as printed; a few extreme items set the scale."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def fit(self, values: Tensor) -> None:
        self.low.copy_(values.min())
        self.high.copy_(values.max())

    def forward(self, values: Tensor) -> Tensor:
        return rescale(values, self.low, self.high)


class ClippedMinMax(MinMax):
    """Eq. 13 between two quantiles; what lies outside is clipped."""

    def __init__(self, *, low_quantile: float, high_quantile: float) -> None:
        super().__init__()
        self.quantiles = (low_quantile, high_quantile)

    def fit(self, values: Tensor) -> None:
        ordered = values.sort().values  # torch.quantile refuses more than 16M values
        low, high = (ordered[round(q * (ordered.numel() - 1))] for q in self.quantiles)
        self.low.copy_(low)
        self.high.copy_(high)


class Rank(Normalizer):
    """The fraction of the catalogue an item is richer than: uniform whatever the source's distribution."""

    reference: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("reference", torch.zeros(1))

    def fit(self, values: Tensor) -> None:
        self.reference = values.sort().values

    def forward(self, values: Tensor) -> Tensor:
        return fractional_rank(values.contiguous(), self.reference)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(prefix + "reference")
        if isinstance(stored, Tensor):  # its length is the catalogue's, known only since fit
            self.reference = self.reference.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Richness(nn.Module):
    """N_norm: how much an item's behavior has to say, in ``[0, 1]``; 0 without interactions.

    Args:
        source: what is measured.
        normalizer: how it is brought to ``[0, 1]``.
        require_positive_correlation: refuse a source that does not rise with the counts.
    """

    def __init__(self, *, source: nn.Module, normalizer: Normalizer, require_positive_correlation: bool) -> None:
        super().__init__()
        self.source = source
        self.normalizer = normalizer
        self.require_positive_correlation = require_positive_correlation

    def fit(self, behavior: Tensor, count: Tensor) -> None:
        """Learn the scale from the whole catalogue; items without interactions are left out.

        Args:
            behavior: raw embeddings, ``[items, dim]``.
            count: training interactions, ``[items]``.

        Raises:
            UserError: no item has an interaction, or the source does not rise with the counts.
        """
        warm = count > 0
        if not bool(warm.any()):
            raise UserError("richness: no item has a training interaction; check the split of the interactions")
        values = self.source(behavior, count)[warm]  # row by row: no copy of the catalogue
        if self.require_positive_correlation:
            self._check(values, count[warm])
        self.normalizer.fit(values)

    def forward(self, behavior: Tensor, count: Tensor) -> Tensor:
        """Raw embeddings ``[items, dim]`` and counts ``[items]`` to N_norm ``[items]``."""
        richness = self.normalizer(self.source(behavior, count))
        return torch.where(count > 0, richness, torch.zeros_like(richness))

    def _check(self, values: Tensor, count: Tensor) -> None:
        if bool(count.min() == count.max()):
            return  # nothing to compare with
        correlation = float(spearman(values, count))
        if correlation <= MIN_CORRELATION:
            raise UserError(
                f"tokenizer.richness: {type(self.source).__name__} of the behavior embeddings does not rise "
                f"with the interaction counts (Spearman {correlation:+.2f}, needs > {MIN_CORRELATION}), so rich "
                "and poor items would trade places; use richness@tokenizer.richness=log_count, or set "
                "tokenizer.richness.require_positive_correlation=false to go on"
            )
