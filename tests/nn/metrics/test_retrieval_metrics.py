"""The stateful form: names, levels, batches, processes, and its speed beside torchmetrics'."""

import math
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics.retrieval import RetrievalNormalizedDCG, RetrievalRecall

from adasid_exp.nn.metrics.retrieval import RetrievalMetrics
from adasid_exp.types import TargetRank

CUTOFFS = (5, 10, 50, 100)


def ranks(above, tied=None, sid_above=None, sid_tied=None):
    above = torch.as_tensor(above)
    tied = torch.ones_like(above) if tied is None else torch.as_tensor(tied)
    return TargetRank(
        above=above,
        tied=tied,
        sid_above=above if sid_above is None else torch.as_tensor(sid_above),
        sid_tied=torch.ones_like(above) if sid_tied is None else torch.as_tensor(sid_tied),
    )


def test_item_and_sid_level_by_hand():
    """Two users: ranks 1 and 7..8 at item level; 1 and 3 at SID level."""
    metric = RetrievalMetrics(cutoffs=CUTOFFS)
    metric.update(ranks([0, 6], tied=[1, 2], sid_above=[0, 2]))
    values = {name: value.item() for name, value in metric.compute().items()}
    assert values["recall@5"] == 0.5
    assert values["recall@10"] == 1.0
    assert values["ndcg@10"] == pytest.approx((1 + (1 / 3 + 1 / math.log2(9)) / 2) / 2, abs=1e-15)
    assert values["sid_recall@5"] == 1.0
    assert values["sid_ndcg@5"] == pytest.approx(0.75, abs=1e-15)
    assert len(values) == 16


def test_batches_add_up():
    above = torch.randint(0, 150, (1000,), generator=torch.Generator().manual_seed(0))
    whole, parts = RetrievalMetrics(cutoffs=CUTOFFS), RetrievalMetrics(cutoffs=CUTOFFS)
    whole.update(ranks(above))
    for part in above.split(64):
        parts.update(ranks(part))
    for name, value in whole.compute().items():
        assert parts.compute()[name].item() == pytest.approx(value.item(), abs=1e-14)


def _process(rank, world, file, queue):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    metric = RetrievalMetrics(cutoffs=CUTOFFS)
    above = torch.arange(0, 120, 3)
    metric.update(ranks(above if rank == 0 else above[:0]))  # the second process has no user at all
    queue.put({name: value.item() for name, value in metric.compute().items()})
    dist.destroy_process_group()


def test_two_processes_one_of_them_empty(tmp_path):
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    mp.spawn(_process, args=(2, tmp_path / "store", queue), nprocs=2)
    alone = RetrievalMetrics(cutoffs=CUTOFFS)
    alone.update(ranks(torch.arange(0, 120, 3)))
    wanted = {name: value.item() for name, value in alone.compute().items()}
    assert queue.get() == wanted
    assert queue.get() == wanted


def test_wrong_cutoffs_are_refused():
    with pytest.raises(ValueError, match="positive list lengths"):
        RetrievalMetrics(cutoffs=(0, 5))


def test_equal_to_torchmetrics_and_far_faster():
    """2,000 users with lists of 100, no ties; the slack of 2 below the goal of 100 is for a busy machine."""
    generator = torch.Generator().manual_seed(0)
    users = 2000
    above = torch.randint(0, 130, (users,), generator=generator)
    relevant = torch.arange(100) == above[:, None]
    scores = (1 - torch.arange(100.0) / 128).expand(users, 100).flatten()
    index = torch.arange(users).repeat_interleave(100)
    recall = RetrievalRecall(top_k=50, empty_target_action="neg")
    ndcg = RetrievalNormalizedDCG(top_k=50, empty_target_action="neg")
    start = time.process_time()
    reference = [metric(scores, relevant.flatten(), index).item() for metric in (recall, ndcg)]
    theirs = time.process_time() - start
    ours = []
    for _ in range(5):
        metric = RetrievalMetrics(cutoffs=CUTOFFS)
        start = time.process_time()
        metric.update(ranks(above))
        values = metric.compute()
        ours.append(time.process_time() - start)
    assert [values["recall@50"].item(), values["ndcg@50"].item()] == pytest.approx(reference, abs=1e-6)
    assert theirs / sorted(ours)[2] > 50
