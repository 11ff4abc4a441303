"""Two processes see what one process with the whole batch sees: strengths of the controller, negatives of InfoNCE."""

import os
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from adasid_exp.nn.losses.alignment import AdaptiveAlignment, BehaviorAnchor, ContentSum
from adasid_exp.nn.losses.sparsity import BucketSparsity, MeanTarget, StrengthController

STEPS, ITEMS = 12, 16


def regularizer():
    knobs = {"growth": 1.05, "smoothing": 0.9, "floor": 1e-4, "ceiling": 0.3, "dead_band": 0.0, "settle": 0.9}
    model = BucketSparsity(slots=3, target=MeanTarget(mean=0.4), controller=StrengthController(buckets=4, **knobs))
    model.fit(torch.linspace(0, 1, 64))
    return model


def alignment():
    return AdaptiveAlignment(
        alpha=10.0, beta=9.0, temperature=0.07, weight=1.0, pairing=ContentSum(anchor=BehaviorAnchor())
    )


def global_batch():
    g = torch.Generator().manual_seed(0)
    weights = (torch.rand(STEPS, ITEMS, 3, generator=g) - 0.3).relu()
    richness = torch.rand(STEPS, ITEMS, generator=g)
    h = {name: torch.randn(ITEMS, 4, generator=g) for name in ("text", "vision", "behavior")}
    return weights, richness, h


def outcome(mine):
    """Strengths after some steps, and gradients of the alignment loss on this process's rows."""
    weights, richness, h = global_batch()
    model = regularizer()
    for step in range(STEPS):
        model(weights[step, mine], richness[step, mine])
        model.after_step(step, 1000)
    views = {name: rows[mine].clone().requires_grad_() for name, rows in h.items()}
    terms = alignment()(views, richness[0, mine])
    torch.stack(list(terms.values())).sum().backward()
    return model.controller.strength, {name: view.grad for name, view in views.items()}


def rank(index, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=index, world_size=2)
    half = slice(index * ITEMS // 2, (index + 1) * ITEMS // 2)
    torch.save(outcome(half), Path(folder) / f"{index}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(os.name != "posix", reason="gloo over a file")
def test_two_ranks_equal_one():
    strength, gradients = outcome(slice(None))
    assert (strength != 1e-4).any()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(rank, args=(folder,), nprocs=2)
        halves = [torch.load(Path(folder) / f"{index}.pt") for index in range(2)]
    for theirs, _ in halves:
        torch.testing.assert_close(theirs, strength)
    for name, whole in gradients.items():
        # Each rank's loss is a mean over half the items, so its gradients sum to twice the whole batch's.
        together = torch.cat([parts[name] for _, parts in halves]) / 2
        torch.testing.assert_close(together, whole, atol=1e-6, rtol=1e-4)
