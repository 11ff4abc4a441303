"""Recall and NDCG at several cutoffs, at item level and at SID level, as one metric with additive states."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from adasid_exp.functional.ranking import ranking_sums
from adasid_exp.types import TargetRank

_LEVELS = ("", "sid_")


class RetrievalMetrics(Metric):
    """Means over users of expected Recall and NDCG (ties: expectation over a random order of the block).

    The whole catalogue is ranked. Item level asks for the held-out item itself; SID level (``sid_`` names)
    asks for its SID among the distinct SIDs, and flatters methods whose SIDs collide. States are sums, so
    reducing them over processes is exact, and a process that saw no user adds zeros.

    Args:
        cutoffs: list lengths, for example ``(5, 10, 50, 100)``.
    """

    full_state_update = False
    higher_is_better = True
    sums: Tensor
    users: Tensor

    def __init__(self, *, cutoffs: tuple[int, ...]) -> None:
        super().__init__()
        if not cutoffs or min(cutoffs) < 1:
            raise ValueError(f"cutoffs must be positive list lengths, got {tuple(cutoffs)}")
        self.register_buffer("cutoffs", torch.tensor(tuple(cutoffs)), persistent=False)
        self.names = [f"{level}{kind}@{n}" for level in _LEVELS for kind in ("recall", "ndcg") for n in cutoffs]
        zeros = torch.zeros(len(self.names), dtype=torch.float64)
        self.add_state("sums", default=zeros, dist_reduce_fx="sum")
        self.add_state("users", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, rank: TargetRank) -> None:
        """Adds a batch of users."""
        cutoffs: Tensor = self.cutoffs  # type: ignore[assignment]
        item = ranking_sums(rank.above, rank.tied, cutoffs)
        sid = ranking_sums(rank.sid_above, rank.sid_tied, cutoffs)
        self.sums += torch.cat([item.recall, item.ndcg, sid.recall, sid.ndcg])
        self.users += rank.above.numel()

    def compute(self) -> dict[str, Tensor]:
        """The means by name (``recall@50``, ``ndcg@50``, ``sid_recall@50``, ...); NaN if there was no
        user."""
        return dict(zip(self.names, (self.sums / self.users).unbind(), strict=True))
