"""Items as their SIDs and as themselves."""

from __future__ import annotations

from torch import Tensor

from adasid_exp.nn.representations.base import ItemRepresentation
from adasid_exp.nn.representations.item_id import ItemId
from adasid_exp.nn.representations.sid import Sid
from adasid_exp.nn.representations.slot_weights import SlotWeights
from adasid_exp.types import SidTable


class SidAndItemId(ItemRepresentation):
    """The sum of both representations, so that what reads it stays the same.

    Args:
        items: size of the catalogue.
        sids, dim, slot_dim, prior_dim, slot_weights: as for `Sid`.
    """

    def __init__(
        self,
        *,
        items: int,
        sids: SidTable,
        dim: int,
        slot_dim: int,
        prior_dim: int,
        slot_weights: SlotWeights,
    ) -> None:
        super().__init__()
        self.dim, self.prior_dim = dim, prior_dim
        self.sid = Sid(sids=sids, dim=dim, slot_dim=slot_dim, prior_dim=prior_dim, slot_weights=slot_weights)
        self.item_id = ItemId(items=items, dim=dim, prior_dim=prior_dim)

    def forward(self, item: Tensor) -> Tensor:
        """``int64 [...] -> [..., dim]``."""
        return self.sid(item) + self.item_id(item)

    def prior(self, item: Tensor) -> Tensor:
        """``int64 [rows] -> [rows, prior_dim]``."""
        return self.sid.prior(item) + self.item_id.prior(item)
