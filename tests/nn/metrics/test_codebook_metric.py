"""Codebook metrics over batches equal the functions over everything."""

import pytest
import torch

from adasid_exp.functional.codebook import (
    active_length,
    code_counts,
    collision_rate,
    max_collision,
    token_entropy,
    utilisation,
)
from adasid_exp.nn.metrics.codebook import CodebookUsage, SidCollisions

SIZES = (5, 9)


def codes():
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randint(-1, size, (100,), generator=generator) for size in SIZES], dim=1)


def test_batches_add_up():
    usage, collisions = CodebookUsage(sizes=SIZES), SidCollisions()
    for part in codes().split(17):
        usage.update(part)
        collisions.update(part)
    counts = code_counts(codes(), SIZES)
    figures = {**usage.compute(), **collisions.compute()}
    assert figures["entropy"] == token_entropy(counts).mean()
    assert figures["utilisation"] == utilisation(counts, SIZES).mean()
    assert figures["active_length"].item() == pytest.approx(active_length(codes()).double().mean().item())
    assert figures["collision_rate"] == collision_rate(codes())
    assert figures["unique_rate"] == 1 - collision_rate(codes())
    assert figures["max_collision"] == max_collision(codes())


def test_two_processes_reduce_to_one():
    # The reduction torchmetrics applies to states ("sum", "cat"), done by hand on two halves.
    whole, halves = CodebookUsage(sizes=SIZES), [CodebookUsage(sizes=SIZES), CodebookUsage(sizes=SIZES)]
    whole.update(codes())
    for metric, part in zip(halves, codes().split(63), strict=True):
        metric.update(part)
    merged = CodebookUsage(sizes=SIZES)
    for name, reduction in merged._reductions.items():
        assert reduction is torch.sum or reduction.__name__ == "dim_zero_sum"
        setattr(merged, name, sum(getattr(half, name) for half in halves))
    merged._update_count = 1
    assert merged.compute() == whole.compute()
