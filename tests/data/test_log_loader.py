"""Streams of prepared logs: windows against loops, and the loaders' laws over ranks, epochs and interruptions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from log_fixtures import ITEMS, TEST_START, VALIDATION_START, RawUser, draw_users, write_logs

from adasid_exp.artifacts.prepared_logs import PreparedLogs
from adasid_exp.data import log_impressions, log_sequences
from adasid_exp.data.loader import Place
from adasid_exp.data.log_impressions import LogImpressionDataModule
from adasid_exp.data.log_sequences import LogSequenceDataModule, log_counts, log_histories
from adasid_exp.data.log_splits import LastInteractions, PreparedWindows
from adasid_exp.data.log_task import LogTask

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
USERS = draw_users(np.random.default_rng(11), [70, 0, 45, 60])
FLAT = [user for some in USERS for user in some]
RULES = [LastInteractions(), PreparedWindows()]


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> None:
    """So small that partitions are cut, as they are at scale."""
    patch = pytest.MonkeyPatch()
    patch.setattr(log_sequences, "BLOCK_USERS", 16)
    patch.setattr(log_impressions, "BLOCK_ROWS", 100)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> PreparedLogs:
    return write_logs(tmp_path_factory.mktemp("logs"), USERS)


class Placed:
    """A data module as one of several processes sees it."""

    def __init__(self, rank: int, world: int, *arguments: object, **how: object) -> None:
        self._place = Place(device=torch.device("cpu"), rank=rank, world=world)
        super().__init__(*arguments, **how)

    @property
    def place(self) -> Place:
        return self._place


class Sequences(Placed, LogSequenceDataModule):
    pass


class Impressions(Placed, LogImpressionDataModule):
    pass


def sequences(logs, rule, rank=0, world=1, *, batch_size=8, history=7, buffer=64, seed=0, held=10**9):
    return Sequences(
        rank, world, logs=logs, split=rule(logs), batch_size=batch_size, history=history, buffer=buffer,
        held_interactions=held, seed=seed,
    )  # fmt: skip


def impressions(logs, rank=0, world=1, *, batch_size=8, history=7, buffer=64, seed=0):
    return Impressions(
        rank, world, logs=logs, split=PreparedWindows()(logs), batch_size=batch_size, history=history, buffer=buffer,
        seed=seed,
    )  # fmt: skip


def rows_of(batch) -> list[tuple]:
    """The rows of a batch, padding cut off."""
    columns = {name: values.tolist() for name, values in vars(batch).items()}
    found = []
    for at, length in enumerate(columns["length"]):
        row = [columns[name][at] for name in columns if name not in {"history", "length"}]
        cut = [value[:length] if isinstance(value, list) else value for value in row]
        assert not any(columns["history"][at][length:])
        found.append((*(tuple(c) if isinstance(c, list) else c for c in cut), tuple(columns["history"][at][:length])))
    return found


def train_part(user: RawUser, rule) -> list[int]:
    """Reference: the items that may be learnt from."""
    items = [item for item, _ in user.interactions]
    if isinstance(rule, LastInteractions):
        return items[:-2] if len(items) >= 3 else items
    return [item for item, tick in user.interactions if tick < VALIDATION_START]


def held_out(user: RawUser, rule, part: str) -> int | None:
    """Reference: place of the held-out interaction."""
    if isinstance(rule, LastInteractions):
        if len(user.interactions) < 3:
            return None
        return len(user.interactions) - (1 if part == "test" else 2)
    start, stop = (VALIDATION_START, TEST_START) if part == "val" else (TEST_START, 10**9)
    inside = [at for at, (_, tick) in enumerate(user.interactions) if start <= tick < stop]
    return inside[0] if inside and inside[0] > 0 else None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("history", [3, 7, 100])
def test_training_windows_are_those_of_a_loop(logs, rule, history):
    expected = []
    for number, user in enumerate(FLAT):
        items = train_part(user, rule)
        for end in range(len(items) - 1, 0, -history):  # cut from the end: full windows last
            start = max(end - history, 0)
            expected.append((number, tuple(items[start + 1 : end + 1]), tuple(items[start:end])))
    found = [row for batch in sequences(logs, rule, history=history).train_dataloader() for row in rows_of(batch)]
    assert Counter(found) == Counter(expected)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize("history", [3, 100])
def test_held_out_items_and_their_histories_are_those_of_a_loop(logs, rule, part, history):
    expected = []
    for number, user in enumerate(FLAT):
        at = held_out(user, rule, part)
        if at is not None:
            items = [item for item, _ in user.interactions]
            expected.append((number, items[at], tuple(items[max(at - history, 0) : at])))
    loader = getattr(sequences(logs, rule, history=history), f"{part}_dataloader")()
    found = [row for batch in loader for row in rows_of(batch)]
    assert Counter(found) == Counter(expected)
    assert len(expected) > 40


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("history", [3, 100])
def test_impressions_are_those_of_a_loop(logs, part, history):
    spans = {"train": (0, VALIDATION_START), "val": (VALIDATION_START, TEST_START), "test": (TEST_START, 10**9)}
    start, stop = spans[part]
    known = [any(tick < VALIDATION_START for _, tick, _ in user.impressions) for user in FLAT]
    expected = []
    for number, user in enumerate(FLAT):
        index = number if known[number] else number + len(FLAT)
        for item, tick, label in user.impressions:
            if start <= tick < stop:
                before = [i for i, time in user.interactions if time < min(tick, VALIDATION_START)]
                expected.append((index, item, float(label), tuple(before[-history:])))
    loader = getattr(impressions(logs, history=history), f"{part}_dataloader")()
    found = [row for batch in loader for row in rows_of(batch)]
    assert Counter(found) == Counter(expected)
    assert len(expected) > 100


LOADERS = {
    "training": lambda logs, *place, **how: sequences(logs, LastInteractions(), *place, **how).train_dataloader(),
    "held out": lambda logs, *place, **how: sequences(logs, PreparedWindows(), *place, **how).test_dataloader(),
    "impressions": lambda logs, *place, **how: impressions(logs, *place, **how).train_dataloader(),
    "test rows": lambda logs, *place, **how: impressions(logs, *place, **how).test_dataloader(),
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("buffer", [1, 100, 10**6])
def test_ranks_share_each_epoch_exactly(logs, kind, world, buffer):
    # Law: the multiset over ranks is that of one process, in every epoch; equal steps, near-equal batches.
    make, how = LOADERS[kind], {"batch_size": 4 * world, "buffer": buffer}
    alone = make(logs, **how)
    ranks = [make(logs, rank, world, **how) for rank in range(world)]
    for _ in range(2):
        expected = Counter(row for batch in alone for row in rows_of(batch))
        batches = [[rows_of(batch) for batch in rank] for rank in ranks]
        assert Counter(row for rank in batches for batch in rank for row in batch) == expected
        assert {len(rank) for rank in batches} == {-(-expected.total() // (4 * world))}
        sizes = {len(batch) for rank in batches for batch in rank}
        assert max(sizes) <= 4
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("kind", LOADERS)
def test_a_step_has_the_same_rows_however_many_ranks_share_it(logs, kind):
    def steps(world):
        ranks = [LOADERS[kind](logs, rank, world, batch_size=12, buffer=96) for rank in range(world)]
        return [[row for batch in step for row in rows_of(batch)] for step in zip(*ranks, strict=True)]

    assert steps(1) == steps(2) == steps(3)


@pytest.mark.parametrize("kind", LOADERS)
def test_epochs_are_shuffled_and_evaluation_is_not(logs, kind):
    def epochs(seed):
        loader = LOADERS[kind](logs, seed=seed)
        return [[rows_of(batch) for batch in loader] for _ in range(2)]

    first, second = epochs(0)
    shuffled = kind in {"training", "impressions"}
    assert (first != second) == shuffled
    assert (epochs(1)[0] != first) == shuffled
    assert epochs(0) == [first, second]
    if shuffled:  # across blocks and partitions too: the first users do not come first
        users = [row[0] % len(FLAT) for batch in first for row in batch]
        assert abs(np.corrcoef(users, np.arange(len(users)))[0, 1]) < 0.5


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("world", [1, 3])
def test_a_plain_loop_resumes_at_the_very_batch(logs, kind, world):
    make = lambda: LOADERS[kind](logs, world - 1, world, batch_size=24, buffer=100)  # noqa: E731
    whole = make()
    expected = [[rows_of(batch) for batch in whole] for _ in range(2)]
    for stop in {1, *range(2, len(whole), max(1, len(whole) // 6))}:
        first, taken = make(), []
        for batch in first:
            taken.append(rows_of(batch))
            if len(taken) == stop:
                break
        second = make()
        second.load_state_dict(first.state_dict())
        taken += [rows_of(batch) for batch in second]
        assert taken == expected[0]
        if stop == 1:
            assert [rows_of(batch) for batch in second] == expected[1]


def test_a_buffer_bounds_what_is_held(logs):
    # Law: what is read at once is the buffer and at most a block on either side of it.
    loader = sequences(logs, LastInteractions(), history=7, buffer=64).train_dataloader()
    held, read = [], loader.stream.read
    loader.stream.read = lambda blocks, device: held.append(read(blocks, device)) or held[-1]
    assert len(list(loader)) > 10
    largest = loader.stream.sizes.max()
    assert len(held) >= loader.rows // 64
    assert max(len(each.table) for each in held) <= 64 + 2 * largest < loader.rows


def test_with_fewer_rows_than_ranks_some_get_an_empty_batch_and_none_waits(tmp_path):
    user = RawUser(interactions=[(1, 1), (2, 2), (3, 3), (4, 4)], impressions=[])
    logs = write_logs(tmp_path, [[user, user]])
    ranks = [list(sequences(logs, LastInteractions(), rank, 3).val_dataloader()) for rank in range(3)]
    assert [len(batches) for batches in ranks] == [1, 1, 1]
    assert [batches[0].history.shape[0] for batches in ranks] == [0, 1, 1]
    assert sorted(row for batches in ranks for row in rows_of(batches[0])) == [(0, 3, (1, 2)), (1, 3, (1, 2))]


def test_logs_without_rows_have_no_batch(tmp_path):
    logs = write_logs(tmp_path, [[RawUser(interactions=[(1, 1)], impressions=[])], []])
    assert list(sequences(logs, LastInteractions()).train_dataloader()) == []
    assert list(impressions(logs).test_dataloader()) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_counts_and_histories_are_those_of_a_loop(logs, rule):
    parts = [train_part(user, rule) for user in FLAT]
    split = rule(logs)
    assert log_counts(logs, split).tolist() == np.bincount([i for p in parts for i in p], minlength=ITEMS).tolist()
    items, offsets = log_histories(logs, split, 10**9, 0)
    assert [items[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)] == parts


def test_histories_are_a_seeded_share_of_users_where_all_would_be_too_many(logs):
    split, parts = LastInteractions()(logs), [tuple(train_part(user, LastInteractions())) for user in FLAT]
    draws = []
    for seed in (0, 0, 1):
        items, offsets = log_histories(logs, split, 1000, seed)
        draws.append([tuple(items[a:b].tolist()) for a, b in zip(offsets[:-1], offsets[1:], strict=True)])
        assert 500 < len(items) <= 1000
        assert not Counter(draws[-1]) - Counter(parts)
    assert draws[0] == draws[1] != draws[2]


def changed(user: RawUser, held) -> RawUser:
    """The same user, but what ``held`` names is of another item, with the opposite label."""
    return replace(
        user,
        interactions=[((i + held(at, t)) % ITEMS, t) for at, (i, t) in enumerate(user.interactions)],
        impressions=[((i + held(None, t)) % ITEMS, t, abs(y - held(None, t))) for i, t, y in user.impressions],
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_changing_what_is_held_out_moves_nothing_that_is_learnt_from(logs, rule, tmp_path):
    def late(user):
        if isinstance(rule, LastInteractions):
            least = len(user.interactions) - 2 if len(user.interactions) >= 3 else 10**9
            return lambda at, tick: at is not None and at >= least
        return lambda at, tick: tick >= VALIDATION_START

    other = write_logs(tmp_path, [[changed(user, late(user)) for user in some] for some in USERS])

    def learnt(of):
        train = [rows_of(batch) for batch in sequences(of, rule).train_dataloader()]
        shown = [rows_of(batch) for batch in impressions(of).train_dataloader()]
        split = rule(of)
        histories = [each.tolist() for each in log_histories(of, split, 10**9, 0)]
        return train, shown if isinstance(rule, PreparedWindows) else None, log_counts(of, split).tolist(), histories

    def tested(of):
        return [rows_of(batch) for batch in sequences(of, rule).test_dataloader()]

    assert learnt(logs) == learnt(other)
    assert tested(logs) != tested(other)  # the change did reach the data


class Recorder(L.LightningModule):
    """Remembers the batches; its weight depends on their order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen: list[tuple] = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, tuple(rows_of(batch))))
        return (self.weight * batch.history.float().mean() / ITEMS - 0.3).square()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def fit(logs: PreparedLogs, folder: Path, epochs: int, resume: Path | None = None, every: int | None = None):
    callbacks = [ModelCheckpoint(dirpath=folder, save_top_k=-1, filename="{step}", every_n_train_steps=every)]
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=callbacks if every else [],
        enable_checkpointing=bool(every), enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, default_root_dir=folder,
    )  # fmt: skip
    module = Recorder()
    data = LogSequenceDataModule(
        logs=logs, split=LastInteractions()(logs), batch_size=64, history=7, buffer=128, held_interactions=1, seed=2
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    return module


@pytest.mark.parametrize("step", [1, 6, 13])
def test_lightning_resumes_inside_an_epoch_bit_for_bit(logs, tmp_path, step):
    straight = fit(logs, tmp_path / "straight", 2)
    fit(logs, tmp_path, 2, every=step)
    resumed = fit(logs, tmp_path, 2, resume=tmp_path / f"step={step}.ckpt", every=step)
    assert len(straight.seen) > step
    assert resumed.seen == straight.seen[step:]
    assert torch.equal(resumed.weight, straight.weight)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_sizes_and_population_are_those_of_a_loop(logs, rule):
    task = LogTask(logs=logs, split=rule(logs), history=7, buffer=64, held_interactions=10**9, seed=0)
    held = {part: sum(held_out(user, rule, part) is not None for user in FLAT) for part in ("val", "test")}
    if isinstance(rule, PreparedWindows):
        ticks = [tick for user in FLAT for _, tick, _ in user.impressions]
        held = {
            "val": sum(VALIDATION_START <= t < TEST_START for t in ticks),
            "test": sum(t >= TEST_START for t in ticks),
        }
    train = sum(len(train_part(user, rule)) for user in FLAT)
    assert task.sizes() == {"train": train, "validation": held["val"], "test": held["test"]}
    found = task.population()
    assert found.lengths.tolist() == [len(user.interactions) for user in FLAT]
    times = [tick for user in FLAT for _, tick in user.interactions]
    assert found.days == pytest.approx((max(times) - min(times)) / 86_400)
    last = [user.interactions[at][0] if (at := held_out(user, rule, "test")) is not None else 0 for user in FLAT]
    assert task.held_out().tolist() == last
    shown = {item for user in FLAT for item, _, _ in user.impressions}
    assert task.popularity().tolist() == [item * 3 + 1 if item in shown else 0 for item in range(ITEMS)]
