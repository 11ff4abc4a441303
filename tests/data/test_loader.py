"""The loader's laws: exhaustive and disjoint over ranks, even, and resumable inside an epoch by Lightning."""

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from adasid_exp.data.loader import Bucketed, ByLength, InOrder, Place, Shuffled, TableDataModule, TableLoader
from adasid_exp.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
CPU = torch.device("cpu")
LENGTHS = np.random.default_rng(0).integers(1, 21, size=157)


class Numbers:
    """A table whose batch is the row numbers themselves."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return self.rows

    def take(self, rows):
        return torch.from_numpy(rows.copy())


def _loader(order, rows=157, batch_size=10, rank=0, world=1):
    return TableLoader(
        table=Numbers(rows),
        order=order,
        batch_size=batch_size,
        place=Place(device=CPU, rank=rank, world=world),
    )


ORDERS = [Shuffled(seed=1), Bucketed(seed=1, lengths=LENGTHS, span=4), ByLength(lengths=LENGTHS), InOrder()]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_the_rows_exactly(order, world):
    ranks = [[batch.tolist() for batch in _loader(order, rank=rank, world=world)] for rank in range(world)]
    assert {len(batches) for batches in ranks} == {16}  # equal steps: no rank waits forever
    sizes = {len(batch) for batches in ranks for batch in batches}
    assert max(sizes) <= -(-10 // world)
    assert max(sizes) - min(sizes) <= 1
    assert sorted(row for batches in ranks for batch in batches for row in batch) == list(range(157))


def test_bucketed_batches_hold_like_lengths():
    order = Bucketed(seed=1, lengths=LENGTHS, span=16)
    spread = [int(np.ptp(LENGTHS[batch.numpy()])) for batch in _loader(order)]
    assert max(spread) <= 4  # 157 rows over 20 lengths: a batch of ten spans two or three of them
    means = [LENGTHS[batch.numpy()].mean() for batch in _loader(order)]
    assert means != sorted(means)  # and the batches come in no order of length


def test_bucketed_sorts_only_within_its_span():
    rows, steps = 157, 16
    for epoch in range(3):
        plan = Bucketed(seed=1, lengths=LENGTHS, span=4).plan(epoch, rows, steps)
        plain = np.random.default_rng([1, epoch]).permutation(rows)
        edges = [0, 39, 78, 117, 157]  # i * 157 // 16 for i = 0, 4, 8, 12, 16
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            assert sorted(plan.rows[a:b]) == sorted(plain[a:b])
            assert (np.diff(LENGTHS[plan.rows[a:b]]) >= 0).all()


def test_an_empty_table_has_no_batch():
    assert list(_loader(InOrder(), rows=0)) == []


def test_a_rank_without_rows_takes_as_many_steps_as_the_others():
    ranks = [[batch.tolist() for batch in _loader(InOrder(), rows=2, rank=rank, world=3)] for rank in range(3)]
    assert ranks == [[[]], [[0]], [[1]]]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
def test_a_step_has_the_same_rows_however_many_ranks_share_it(order):
    def steps(world):
        ranks = [_loader(order, rank=rank, world=world) for rank in range(world)]
        return [torch.cat(parts).tolist() for parts in zip(*ranks, strict=True)]

    assert steps(1) == steps(2) == steps(3)


def test_a_plain_loop_resumes_mid_epoch():
    whole = _loader(Shuffled(seed=5))
    expected = [[batch.tolist() for batch in whole] for _ in range(2)]
    first = _loader(Shuffled(seed=5))
    taken = []
    for batch in first:
        taken.append(batch.tolist())
        if len(taken) == 6:
            break
    second = _loader(Shuffled(seed=5))
    second.load_state_dict(first.state_dict())
    taken += [batch.tolist() for batch in second]
    assert taken == expected[0]
    assert [batch.tolist() for batch in second] == expected[1]


def test_a_state_of_other_epochs_is_refused():
    loader = _loader(InOrder())
    with pytest.raises(UserError, match="step 3 of an epoch of 99 steps") as caught:
        loader.load_state_dict({"epoch": 0, "position": 3, "steps": 99})
    assert "\n" not in str(caught.value)
    loader.load_state_dict({"epoch": 1, "position": 99, "steps": 99})  # between epochs nothing is lost


class Data(TableDataModule):
    def train_dataloader(self):
        order = Bucketed(seed=2, lengths=LENGTHS, span=4)
        return TableLoader(table=Numbers(157), order=order, batch_size=10, place=self.place)

    def val_dataloader(self):
        return TableLoader(table=Numbers(31), order=InOrder(), batch_size=10, place=self.place)


class Recorder(L.LightningModule):
    """Remembers the batches; its weight depends on their order."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, tuple(batch.tolist())))
        return (self.weight * batch.float().mean() / 157 - 0.3).square()

    def validation_step(self, batch, batch_idx):
        self.validated.append(tuple(batch.tolist()))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def _fit(folder: Path, epochs, resume=None, **checkpoint):
    callbacks = [ModelCheckpoint(dirpath=folder, save_top_k=-1, filename="{step}", **checkpoint)] if checkpoint else []
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=bool(checkpoint),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    module = Recorder()
    trainer.fit(module, datamodule=Data(), ckpt_path=resume)
    return module


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return _fit(tmp_path_factory.mktemp("straight"), epochs=3)


def test_lightning_visits_each_row_once_an_epoch(straight):
    for epoch in range(3):
        rows = [row for e, _, batch in straight.seen if e == epoch for row in batch]
        assert sorted(rows) == list(range(157))
    assert len({tuple(batch for e, _, batch in straight.seen if e == epoch) for epoch in range(3)}) == 3
    assert [row for batch in straight.validated for row in batch] == 3 * list(range(31))


@pytest.mark.parametrize("step", [1, 7, 15, 16, 17, 23, 32])
def test_lightning_resumes_at_the_very_batch(straight, tmp_path, step):
    # 16 steps an epoch: inside, before, at and after its border
    _fit(tmp_path, epochs=2, every_n_train_steps=step)
    resumed = _fit(tmp_path, epochs=3, resume=tmp_path / f"step={step}.ckpt", every_n_train_steps=step)
    assert [(e, batch) for e, _, batch in resumed.seen] == [(e, batch) for e, _, batch in straight.seen[step:]]
    assert torch.equal(resumed.weight, straight.weight)


def test_lightning_resumes_at_the_end_of_an_epoch(straight, tmp_path):
    how = {"every_n_epochs": 1, "save_on_train_epoch_end": True}
    _fit(tmp_path, epochs=1, **how)
    resumed = _fit(tmp_path, epochs=3, resume=tmp_path / "step=16.ckpt", **how)
    assert [(e, batch) for e, _, batch in resumed.seen] == [(e, batch) for e, _, batch in straight.seen[16:]]
    assert torch.equal(resumed.weight, straight.weight)
