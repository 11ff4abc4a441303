"""The stateful click metrics: equal to scikit-learn on all rows, however these came and wherever they lie."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from adasid_exp.functional.click import click_summary
from adasid_exp.nn.metrics.click import ClickMetrics


def draw():
    generator = torch.Generator().manual_seed(0)
    user = torch.randint(0, 30, (200,), generator=generator)
    logit = torch.randint(-9, 9, (200,), generator=generator) / 3
    label = (torch.rand(200, generator=generator) < 0.5).float()
    return user, logit, label


def test_batches_add_up_to_the_whole():
    user, logit, label = draw()
    metric = ClickMetrics()
    for part in torch.arange(200).split(64):
        metric.update(user[part], logit[part], label[part])
    found = metric.compute()
    expected = click_summary(user, logit, label)
    assert float(found["auc"]) == pytest.approx(roc_auc_score(label.numpy(), logit.numpy()), abs=1e-12)
    assert found["gauc"] == expected.gauc
    probability = 1 / (1 + np.exp(-logit.double().numpy()))
    assert float(found["logloss"]) == pytest.approx(log_loss(label.numpy(), probability), abs=1e-9)


def test_reset_forgets_and_rows_keep_their_order():
    user, logit, label = draw()
    metric = ClickMetrics()
    metric.update(user, -logit, label)
    metric.reset()
    assert len(metric.rows()["user"]) == 0
    metric.update(user, logit, label)
    rows = metric.rows()
    assert torch.equal(rows["user"], user)
    assert torch.equal(rows["logit"], logit)
    assert torch.equal(rows["label"].float(), label)


def _work(rank, file, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=3)
    user, logit, label = draw()
    metric = ClickMetrics()
    part = (slice(0, 150), slice(150, 200), slice(0, 0))[rank]  # unequal parts, the last process has none
    if rank < 2:
        metric.update(user[part], logit[part], label[part])
    results[rank] = {name: float(value) for name, value in metric.compute().items()}
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")  # torchmetrics' remark on the empty process
def test_processes_agree_on_the_exact_whole_even_if_one_has_no_rows(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.start_processes(_work, (str(tmp_path / "store"), results), nprocs=3, start_method="fork")
        found = dict(results)
    metric = ClickMetrics()
    metric.update(*draw())
    expected = {name: float(value) for name, value in metric.compute().items()}
    for rank in range(3):
        assert found[rank] == pytest.approx(expected, abs=1e-12)
