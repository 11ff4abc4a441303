"""What a model that predicts SIDs looks up about the catalogue."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.functional.scoring import DistinctRows, distinct_rows, flat_rows
from adasid_exp.nn.slot_weights import PadPolicy, SlotWeights
from adasid_exp.types import PAD, SidTable


class SidCatalogue(nn.Module):
    """Tables derived from the SIDs of all items; they move with the model and are in no checkpoint.

    PAD is the last class of every slot.

    Args:
        sids: the SIDs of the whole catalogue.
        sid_weights: how much each slot of a target counts in the loss.
        pad: what an unused slot means.

    Attributes:
        rows: int32 ``[items, slots]`` from `flat_rows`.
        classes_of: class of each slot, int64 ``[items, slots]``.
        targets: loss weights as the policy gives them, ``[items, slots]``.
        loss_weights: the same over their sum, ``[items, slots]``.
        bias: -inf for the classes a slot does not have, 0 for the rest, ``[slots, 1, classes]``.
    """

    rows: Tensor
    classes_of: Tensor
    targets: Tensor
    loss_weights: Tensor
    bias: Tensor
    distinct_rows: Tensor
    sharers: Tensor
    of_item: Tensor

    def __init__(self, *, sids: SidTable, sid_weights: SlotWeights, pad: PadPolicy) -> None:
        super().__init__()
        self.slots, self.classes = len(sids.sizes), max(sids.sizes) + 1
        targets = pad.target_weights(sids.codes, sid_weights(sids))
        rows = flat_rows(sids.codes, self.classes)
        distinct = distinct_rows(rows)
        self.shared = distinct.shared
        tables = {
            "rows": rows,
            "classes_of": torch.where(sids.codes == PAD, self.classes - 1, sids.codes),
            "targets": targets,
            "loss_weights": shares(targets),
            "bias": _bias(sids, pad.predicted(sids.codes), self.classes),
            "distinct_rows": distinct.rows,
            "sharers": distinct.sharers,
            "of_item": distinct.of_item,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    @property
    def distinct(self) -> DistinctRows:
        """The distinct SIDs, those of several items first."""
        return DistinctRows(rows=self.distinct_rows, sharers=self.sharers, of_item=self.of_item, shared=self.shared)

    @property
    def distinct_classes(self) -> Tensor:
        """Classes of the distinct SIDs, int64 ``[distinct, slots]``."""
        return self.distinct_rows.long() - self.classes * torch.arange(self.slots, device=self.distinct_rows.device)

    def mean_by_sid(self, factors: Tensor) -> Tensor:
        """Mean over the items that share a SID, ``[items, slots]`` to ``[distinct, slots]``."""
        sums = factors.new_zeros(len(self.distinct_rows), factors.shape[1])
        return sums.index_add_(0, self.of_item, factors) / self.sharers[:, None]


def shares(weights: Tensor) -> Tensor:
    """Weights of each row divided by their sum, ``[rows, slots]``."""
    return weights / weights.sum(1, keepdim=True)


def _bias(sids: SidTable, predicted: Tensor, classes: int) -> Tensor:
    sizes = torch.tensor(sids.sizes, device=predicted.device)[:, None]
    absent = torch.arange(classes, device=predicted.device) >= sizes
    absent[:, -1] = ~predicted
    return torch.zeros(absent.shape, device=absent.device).masked_fill(absent, -torch.inf)[:, None]
