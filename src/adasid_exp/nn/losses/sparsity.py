"""Keeps as many behavior slots in use as an item's richness deserves (ADA-SID, Eq. 19 to 23).

The gates' L1 norm is pressed down with a strength that follows the sparsity it meets, as in ReMoE (arXiv
2412.14711). The readings differ in what weighs a gate and in how many strengths there are:

    BucketSparsity   per-expert load, one strength for each bucket of richness, which orders items by richness
    GlobalSparsity   per-expert load, one strength (ReMoE)
    ItemSparsity     the load over each item's own target, one strength
    LiteralSparsity  the printed scalar load, one strength
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from adasid_exp.functional.ranks import gathered_together, mean_over_ranks, sum_later
from adasid_exp.functional.sparsity import (
    bucket_edges,
    bucket_sums,
    expert_load,
    item_load,
    printed_load,
    target_sparsity,
)

log = logging.getLogger(__name__)


class Target(nn.Module, ABC):
    """Sparsity asked of an item, ``theta * (1 - richness ** shape)`` (Eq. 22)."""

    theta: Tensor
    shape: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("theta", torch.zeros(()))
        self.register_buffer("shape", torch.ones(()))

    @abstractmethod
    def fit(self, richness: Tensor, slots: int) -> None:
        """Set theta and shape from the catalogue's richness ``[items]``."""

    def forward(self, richness: Tensor) -> Tensor:
        """``[items]`` to ``[items]``."""
        return target_sparsity(richness, theta=self.theta, shape=self.shape)


class MeanTarget(Target):
    """Theta such that the catalogue's mean target is ``mean``, if the poorest item keeps one slot."""

    def __init__(self, *, mean: float) -> None:
        super().__init__()
        self.mean = mean

    def fit(self, richness: Tensor, slots: int) -> None:
        room = float((1 - richness).double().mean())
        cap = 1 - 1 / slots
        wanted = self.mean / room if room > 0 else cap
        if wanted > cap + 1e-6:
            log.warning(
                "sparsity: a mean target of %.3f would leave the poorest items without a slot; %.3f is the most "
                "(sparsity/target@tokenizer.sparsity.target=convex reaches more)",
                self.mean,
                cap * room,
            )
        self.theta.fill_(min(wanted, cap))


class ConvexTarget(Target):
    """Theta at its most, ``1 - 1 / slots``, and the shape whose mean target is ``mean``."""

    def __init__(self, *, mean: float) -> None:
        super().__init__()
        self.mean = mean

    def fit(self, richness: Tensor, slots: int) -> None:
        self.theta.fill_(1 - 1 / slots)
        low, high = 1e-3, 1e3
        for _ in range(60):  # bisection on a log scale: the mean rises with the shape
            self.shape.fill_((low * high) ** 0.5)
            too_dense = float(self(richness).mean()) < self.mean
            low, high = (float(self.shape), high) if too_dense else (low, float(self.shape))


class FixedTarget(Target):
    """Theta as given."""

    def __init__(self, *, theta: float) -> None:
        super().__init__()
        self.theta.fill_(theta)

    def fit(self, richness: Tensor, slots: int) -> None:
        """Nothing to learn."""


class StrengthController(nn.Module):
    """A strength lambda for each bucket of items, raised while too many slots are on, else lowered (Eq. 20).

    Args:
        buckets: strengths to keep.
        growth: factor of one step; 1.05 suits epochs of a dozen steps, 1.2 those of hundreds.
        smoothing: share of the running sparsity that a step keeps.
        floor: smallest strength, also the first.
        ceiling: largest strength.
        dead_band: gaps up to here leave the strength alone.
        settle: share of training after which strengths stay.
    """

    strength: Tensor
    sparsity: Tensor
    target: Tensor

    def __init__(
        self,
        *,
        buckets: int,
        growth: float,
        smoothing: float,
        floor: float,
        ceiling: float,
        dead_band: float,
        settle: float,
    ) -> None:
        super().__init__()
        self.growth = growth
        self.smoothing = smoothing
        self.bounds = (floor, ceiling)
        self.dead_band = dead_band
        self.settle = settle
        self.register_buffer("strength", torch.full((buckets,), floor))
        self.register_buffer("sparsity", torch.zeros(buckets))
        self.register_buffer("target", torch.zeros(buckets))

    def fit(self, target: Tensor) -> None:
        """Take the mean target of every bucket ``[buckets]``; the running sparsity starts there."""
        self.target.copy_(target)
        self.sparsity.copy_(target)

    def update(self, sparsity: Tensor, present: Tensor) -> None:
        """Move the strengths of the buckets that the step held.

        Args:
            sparsity: share of slots off in each bucket, ``[buckets]``.
            present: which buckets had items, bool ``[buckets]``.
        """
        running = torch.lerp(sparsity, self.sparsity, self.smoothing)
        self.sparsity.copy_(torch.where(present, running, self.sparsity))
        gap = self.target - self.sparsity
        direction = torch.where(gap.abs() > self.dead_band, gap.sign(), torch.zeros_like(gap))
        moved = (self.strength * self.growth**direction).clamp(*self.bounds)
        self.strength.copy_(torch.where(present, moved, self.strength))


class SparsityRegularizer(nn.Module, ABC):
    """``mean over items of lambda * sum over slots of load * R``.

    Args:
        slots: behavior slots.
        target: sparsity asked of an item.
        controller: holds a strength for every bucket of equal count over richness.
    """

    edges: Tensor
    seen: Tensor

    def __init__(self, *, slots: int, target: Target, controller: StrengthController) -> None:
        super().__init__()
        self.slots = slots
        self.target = target
        self.controller = controller
        buckets = controller.strength.numel()
        self.register_buffer("edges", torch.zeros(buckets - 1))
        self.register_buffer("seen", torch.zeros(2, buckets), persistent=False)

    @abstractmethod
    def load(self, active: Tensor, target: Tensor) -> Tensor:
        """What weighs the gates, broadcastable to ``[items, slots]``."""

    def fit(self, richness: Tensor) -> None:
        """Learn targets and buckets from the catalogue's richness ``[items]``."""
        self.target.fit(richness, self.slots)
        self.edges.copy_(bucket_edges(richness, self.seen.shape[1]))
        sums, items = bucket_sums(self.target(richness), self.bucket(richness), self.seen.shape[1])
        self.controller.fit(sums / items.clamp_min(1))

    def bucket(self, richness: Tensor) -> Tensor:
        """Bucket of every item, int64 ``[items]``."""
        return torch.bucketize(richness, self.edges, right=True)

    def forward(self, weights: Tensor, richness: Tensor) -> dict[str, Tensor]:
        """The term by name; adds the sparsity it sees to the step's, for :meth:`after_step`.

        Args:
            weights: R ``[items, slots]``.
            richness: in ``[0, 1]``, ``[items]``.
        """
        active = weights.detach() > 0
        bucket = self.bucket(richness)
        off = 1 - active.float().mean(1)
        sum_later([torch.stack(bucket_sums(off, bucket, self.seen.shape[1]))], self.see)
        pressed = (self._load(active, self.target(richness)) * weights).sum(1)
        return {"sparsity": mean_over_ranks(self.controller.strength[bucket] * pressed)}

    @torch.no_grad()
    def see(self, sums: Tensor) -> None:
        """Add what all ranks' rows of a batch use, ``[2, buckets]``: shares of slots off, and items."""
        self.seen += sums

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Move the strengths by what all ranks saw in this step, in however many batches."""
        if step < self.controller.settle * total_steps:
            off, items = self.seen
            self.controller.update(off / items.clamp_min(1), items > 0)
            self.seen.zero_()

    def gauges(self) -> dict[str, Tensor]:
        """Lambda of every bucket, the poorest items' first."""
        return {f"lambda_{bucket + 1}": value for bucket, value in enumerate(self.controller.strength.unbind())}

    def _load(self, active: Tensor, target: Tensor) -> Tensor:
        """`load` by what all ranks hold, for this rank's items."""
        everyone, first = gathered_together(active, target)
        load = self.load(*everyone)
        return load[first : first + len(active)] if load.ndim == 2 else load


class BucketSparsity(SparsityRegularizer):
    """Per-expert load, a strength for every bucket."""

    def load(self, active: Tensor, target: Tensor) -> Tensor:
        return expert_load(active, target)


class GlobalSparsity(BucketSparsity):
    """ReMoE's regulariser: per-expert load, one strength."""


class ItemSparsity(SparsityRegularizer):
    """Per-expert load over each item's own target, one strength: poor items are pressed harder."""

    def load(self, active: Tensor, target: Tensor) -> Tensor:
        return item_load(active, target)


class LiteralSparsity(SparsityRegularizer):
    """Eq. 19 to 23 as printed: a scalar load, which balances no experts, and one strength."""

    def load(self, active: Tensor, target: Tensor) -> Tensor:
        return printed_load(active, target)


class NoSparsity(nn.Module):
    """No pressure: the router uses as many slots as reconstruction likes."""

    def __init__(self, *, slots: int) -> None:
        super().__init__()

    def fit(self, richness: Tensor) -> None:
        """Nothing to learn."""

    def forward(self, weights: Tensor, richness: Tensor) -> dict[str, Tensor]:
        """No term."""
        return {}

    def after_step(self, step: int, total_steps: int) -> None:
        """Nothing to move."""

    def gauges(self) -> dict[str, Tensor]:
        """No strengths."""
        return {}
