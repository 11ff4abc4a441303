"""Feeding batches of up to 128 ids out of prepared logs, 1,024 sequences a batch, without workers.

litdata and Hugging Face datasets are no part of `make setup`: the cases that compare with them run where they can be
imported. Reading includes what a training needs besides: shuffling by buffer, targets, lengths, padding.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from adasid_exp.artifacts.prepared_logs import PartitionArrays, PreparedLogs, partition_name, write_index
from adasid_exp.data.log_sequences import LogSequenceDataModule
from adasid_exp.data.log_splits import LastInteractions
from conftest import AtLeast

PARTITIONS, USERS, ITEMS, STEPS, BATCH = 4, 8192, 100_000, 128, 1024
IN_ALL = PARTITIONS * USERS
GOAL = 1e6 / 300_000
"""Microseconds a sequence: 300,000 a second."""


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Sequences of 20 to 128 ids; two more of each user are held out."""
    folder, generator = tmp_path_factory.mktemp("logs"), np.random.default_rng(0)
    for number in range(PARTITIONS):
        offsets = np.concatenate([[0], np.cumsum(generator.integers(23, STEPS + 4, size=USERS))])
        none = {name: np.zeros(0, dtype) for name, dtype in {"label": np.int8, "history_end": np.int64}.items()}
        none |= {f"impression_{name}": np.zeros(0, np.int32) for name in ("user", "item", "count")}
        PartitionArrays(
            user_id=pl.Series("user_id", np.arange(USERS)),
            offsets=offsets,
            item=generator.integers(ITEMS, size=offsets[-1], dtype=np.int32),
            timestamp=np.arange(offsets[-1]),
            impression_timestamp=np.zeros(0, np.int64),
            **none,
        ).save(folder / partition_name(number))
    catalogue = pl.DataFrame({"item_id": np.arange(ITEMS).astype(str), "count": np.zeros(ITEMS, dtype=np.int64)})
    catalogue.write_parquet(folder / "items.parquet")
    write_index(folder, facts={"windows": {}})
    return PreparedLogs.load(folder)


@pytest.fixture(scope="module")
def ours(logs):
    """One epoch of training batches."""
    data = LogSequenceDataModule(
        logs=logs, split=LastInteractions()(logs), batch_size=BATCH, history=STEPS, buffer=1 << 17,
        held_interactions=1, seed=0,
    )  # fmt: skip
    loader = data.train_dataloader()
    assert loader.rows == IN_ALL

    def epoch():
        return sum(len(batch.length) for batch in loader)

    return epoch


def padded(rows):
    """A list of id arrays as one tensor."""
    return torch.nn.utils.rnn.pad_sequence([torch.as_tensor(row).long() for row in rows], batch_first=True)


def sequences(logs):
    """Every user's training ids, one array after the other."""
    for part in logs.partitions:
        for start, stop in zip(part.offsets[:-1], part.offsets[1:], strict=True):
            yield part.item[start : stop - 2]


class RowByRow(Dataset):
    """The same arrays, one row at a time."""

    def __init__(self, logs):
        self.parts = [(part.item, part.offsets) for part in logs.partitions]

    def __len__(self):
        return IN_ALL

    def __getitem__(self, row):
        item, offsets = self.parts[row // USERS]
        user = row % USERS
        return np.array(item[offsets[user] : offsets[user + 1] - 2])


def batches_of(loader):
    return lambda: sum(len(batch) for batch in loader)


def show(compare, name, goal, ours, reference, against):
    compare(
        name, AtLeast(goal=goal), ours=ours, reference=reference, against=against, ours_units=IN_ALL,
        reference_units=IN_ALL, rounds=3, note=f"a sequence; goal {GOAL:.1f} us (300,000 a second)",
    )  # fmt: skip


def test_row_by_row(compare, ours, logs):
    loader = DataLoader(RowByRow(logs), batch_size=BATCH, shuffle=True, collate_fn=padded)
    show(compare, "feeding logs", 2.0, ours, batches_of(loader), "memory map, row by row and collate")


def test_litdata(compare, ours, logs, tmp_path):
    litdata = pytest.importorskip("litdata", exc_type=ImportError)
    from litdata.streaming.cache import Cache

    cache = Cache(str(tmp_path / "cache"), chunk_bytes="16MB")
    for number, row in enumerate(sequences(logs)):
        cache[number] = np.array(row)
    cache.done()
    cache.merge()
    data = litdata.StreamingDataset(str(tmp_path / "cache"), shuffle=True)
    loader = litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=0, collate_fn=padded)
    show(compare, "feeding logs, litdata", 4.0, ours, batches_of(loader), "litdata StreamingDataLoader")


def test_hugging_face(compare, ours, logs, tmp_path):
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    rows = datasets.Dataset.from_dict({"ids": [row.tolist() for row in sequences(logs)]})
    rows.save_to_disk(str(tmp_path / "rows"))
    data = datasets.load_from_disk(str(tmp_path / "rows")).with_format("numpy")
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, collate_fn=lambda rows: padded([r["ids"] for r in rows]))
    show(compare, "feeding logs, datasets", 10.0, ours, batches_of(loader), "Hugging Face datasets, map style")
