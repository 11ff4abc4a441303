"""Standardisation of every modality of an item batch, fitted once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from adasid_exp.functional.standardize import column_moments, z_score
from adasid_exp.types import ItemBatch

BEHAVIOR = "behavior"
"""The modality that means nothing for an item nobody has touched."""


class ColumnStandardize(nn.Module):
    """Z-score of one modality, ``[items, dim]``; the identity until fitted."""

    mean: Tensor
    std: Tensor

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def fit(self, values: Tensor, rows: Tensor) -> None:
        """Take the moments of ``values [items, dim]`` over the true ``rows [items]``."""
        moments = column_moments(values, rows)
        self.mean.copy_(moments.mean)
        self.std.copy_(moments.std)

    def forward(self, values: Tensor) -> Tensor:
        return z_score(values, self.mean, self.std)


class Standardize(nn.Module):
    """Z-scores by modality over the items that have interactions.

    An item without interactions has no behavior: its standardised behavior is 0, the catalogue's mean.

    Args:
        dims: width of each modality by name.
    """

    seen: Tensor

    def __init__(self, *, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.columns = nn.ModuleDict({name: ColumnStandardize(dim=dim) for name, dim in dims.items()})
        self.register_buffer("seen", torch.tensor(0))

    def fit(self, items: ItemBatch) -> None:
        """Fit on the whole catalogue. Raises ValueError when no item has interactions."""
        rows = items.count > 0
        for name, column in self.columns.items():
            column.fit(items.features[name], rows)  # type: ignore[operator]
        self.seen.copy_(rows.sum())

    def forward(self, items: ItemBatch) -> dict[str, Tensor]:
        """Standardised features ``[items, dim]`` by modality."""
        values = {name: column(items.features[name]) for name, column in self.columns.items()}
        if BEHAVIOR in values:
            values[BEHAVIOR] = values[BEHAVIOR] * (items.count > 0).unsqueeze(1)
        return values
