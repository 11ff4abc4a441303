"""Items as their SIDs: the only thing a SID method's ranker sees of an item."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adasid_exp.nn.embedding import EmbeddingTable
from adasid_exp.nn.representations.base import ItemRepresentation
from adasid_exp.nn.representations.slot_weights import SlotWeights
from adasid_exp.types import PAD, SidTable


class Sid(ItemRepresentation):
    """A vector for each code of each slot, side by side, then one linear map.

    All slots share one table in which a slot starts at its offset; row 0 is the unused slot and stays zero.
    The gates read the same slots, without a gradient into them, through a linear map of their own.

    Args:
        sids: codes and weights of the catalogue.
        dim: width of the vectors.
        slot_dim: width of a code's vector.
        prior_dim: width of the gate input.
        slot_weights: what becomes of the slots' weights.
    """

    codes: Tensor
    weights: Tensor

    def __init__(self, *, sids: SidTable, dim: int, slot_dim: int, prior_dim: int, slot_weights: SlotWeights) -> None:
        super().__init__()
        self.dim, self.prior_dim = dim, prior_dim
        self.slot_weights = slot_weights
        self.register_buffer("codes", table_rows(sids), persistent=False)
        self.register_buffer("weights", unit_mean_weights(sids), persistent=False)
        self.table = EmbeddingTable(1 + sum(sids.sizes), slot_dim, padding_idx=0)
        width = slot_weights.width(len(sids.sizes), slot_dim)
        self.projection = nn.Linear(width, dim)
        self.prior_projection = nn.Linear(width, prior_dim)

    def forward(self, item: Tensor) -> Tensor:
        """``int64 [...] -> [..., dim]``."""
        if item.numel() < len(self.codes):
            return self.projection(self._slots(self.codes[item], self.weights[item]))
        # More look-ups than items: project the catalogue once, then look vectors up.
        return F.embedding(item, self.projection(self._slots(self.codes, self.weights)))

    def prior(self, item: Tensor) -> Tensor:
        """``int64 [rows] -> [rows, prior_dim]``."""
        return self.prior_projection(self._slots(self.codes[item], self.weights[item]).detach())

    def _slots(self, codes: Tensor, weights: Tensor) -> Tensor:
        return self.slot_weights(self.table(codes), weights)


def table_rows(sids: SidTable) -> Tensor:
    """Rows of the one table, int64 ``[items, slots]``: 0 for ``PAD``, else 1 + slot's offset + code.

    Raises:
        ValueError: a code lies outside its codebook.
    """
    sizes = torch.tensor(sids.sizes, device=sids.codes.device)
    if bool(((sids.codes < PAD) | (sids.codes >= sizes)).any()):
        raise ValueError(f"codes {tuple(sids.codes.shape)} leave codebooks of sizes {sids.sizes}")
    offsets = sizes.cumsum(0) - sizes
    return torch.where(sids.codes == PAD, 0, sids.codes + offsets + 1)


def unit_mean_weights(sids: SidTable) -> Tensor:
    """Weights ``[items, slots]`` with mean 1 over the used behavior slots; others, and ``PAD``, as they are.

    A router's scale is arbitrary: R / mean(R over R > 0). Weights whose mean is 1 already do not change.
    """
    behavior = torch.tensor([name == "behavior" for name in sids.modalities], device=sids.codes.device)
    used = behavior & (sids.codes != PAD) & (sids.weights > 0)
    mean = sids.weights[used].mean() if bool(used.any()) else sids.weights.new_ones(())
    return torch.where(used, sids.weights / mean, sids.weights)
