"""How far the lists of a beam are from the exact ones, as one metric with additive states."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from adasid_exp.functional.beam import SidBeam, overlap_at, rank_in_beam
from adasid_exp.functional.ranking import expected_recall
from adasid_exp.functional.scoring import DistinctRows


class BeamGap(Metric):
    """Means over users of the overlap with the exact list and of the Recall that the beam loses.

    ``beam_overlap@N`` is the share of the exact best N SIDs that are among the beam's best N;
    ``beam_recall_gap@N`` is the item-level Recall under exact scores minus that under the beam. NaN if there
    was no user.

    Args:
        cutoffs: list lengths N.
    """

    full_state_update = False
    sums: Tensor
    users: Tensor

    def __init__(self, *, cutoffs: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("cutoffs", torch.tensor(cutoffs), persistent=False)
        self.names = [f"{kind}@{n}" for kind in ("beam_overlap", "beam_recall_gap") for n in cutoffs]
        zeros = torch.zeros(len(self.names), dtype=torch.float64)
        self.add_state("sums", default=zeros, dist_reduce_fx="sum")
        self.add_state("users", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, beam: SidBeam, exact: SidBeam, distinct: DistinctRows, target: Tensor) -> None:
        """Adds users: what the beam found, all SIDs by exact score, and the held-out items ``[users]``."""
        cutoffs: Tensor = self.cutoffs  # type: ignore[assignment]
        longest = int(cutoffs.max())
        overlap = overlap_at(beam.sids[:, :longest], exact.sids[:, :longest], cutoffs)
        ranks = [rank_in_beam(found, distinct, target) for found in (exact, beam)]
        best, got = (expected_recall(rank.above, rank.tied, cutoffs) for rank in ranks)
        self.sums += torch.cat([overlap.sum(0), (best - got).sum(0)])
        self.users += len(target)

    def compute(self) -> dict[str, Tensor]:
        """The means by name."""
        return dict(zip(self.names, (self.sums / self.users).unbind(), strict=True))
