"""Item batches: every item once an epoch, its own features, in batches of near-equal size."""

import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.artifacts.item_vectors import VECTORS, open_vectors
from adasid_exp.data.items import ItemDataModule
from adasid_exp.functional import standardize
from adasid_exp.nn.standardize import ColumnStandardize

ITEMS = 103


@pytest.fixture(scope="module")
def embeddings():
    generator = np.random.default_rng(0)
    features = {
        name: generator.normal(size=(ITEMS, dim)).astype(np.float32) for name, dim in [("text", 4), ("behavior", 3)]
    }
    return ItemEmbeddings(features=features, count=generator.integers(0, 50, ITEMS))


def test_each_item_comes_once_with_its_own_row(embeddings):
    loader = ItemDataModule(embeddings=embeddings, batch_size=25, seed=0).train_dataloader()
    batches = list(loader)
    # ceil(103 / 25) = 5 batches of 20 or 21: none small, none above the batch size, none dropped
    assert sorted(len(batch.index) for batch in batches) == [20, 20, 21, 21, 21]
    assert len(loader) == 5
    index = torch.cat([batch.index for batch in batches]).numpy()
    assert sorted(index) == list(range(ITEMS))
    for name, table in embeddings.features.items():
        assert np.array_equal(torch.cat([batch.features[name] for batch in batches]).numpy(), table[index])
    assert np.array_equal(torch.cat([batch.count for batch in batches]).numpy(), embeddings.count[index])


def test_the_catalogue_in_order(embeddings):
    items = ItemDataModule(embeddings=embeddings, batch_size=25, seed=0).items
    assert items.index.tolist() == list(range(ITEMS))
    assert np.array_equal(items.features["text"].numpy(), embeddings.features["text"])


def test_epochs_differ_and_seeds_repeat(embeddings):
    def epochs(seed):
        loader = ItemDataModule(embeddings=embeddings, batch_size=25, seed=seed).train_dataloader()
        return [torch.cat([batch.index for batch in loader]).tolist() for _ in range(2)]

    first, second = epochs(0)
    assert first != second
    assert epochs(0) == [first, second]
    assert epochs(1)[0] != first


def test_the_catalogue_on_disk_is_not_held_in_memory(tmp_path, embeddings):
    # By storage: tensors of the whole catalogue are the mapped file; and writing to them leaves it as it was.
    np.save(tmp_path / VECTORS, embeddings.features["text"])
    mapped = ItemEmbeddings(features={"text": open_vectors(tmp_path)}, count=embeddings.count)
    data = ItemDataModule(embeddings=mapped, batch_size=25, seed=0)
    text = data.items.features["text"]
    assert text.data_ptr() == mapped.features["text"].ctypes.data
    assert data.items is data.items
    text[0] = 7.0
    assert np.array_equal(np.load(tmp_path / VECTORS), embeddings.features["text"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells how much memory is no file's")
def test_statistics_and_an_epoch_need_no_memory_for_the_catalogue(tmp_path, monkeypatch):
    # Law: what is held beside the file is blocks and batches; one copy of the table is 31 MiB.
    monkeypatch.setattr(standardize, "BLOCK", 2048)
    rows, dim = 2**15, 250
    table = np.lib.format.open_memmap(tmp_path / VECTORS, mode="w+", dtype=np.float32, shape=(rows, dim))
    table[:] = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
    table.flush()
    del table
    columns = ColumnStandardize(dim=dim)
    embeddings = ItemEmbeddings(features={"text": open_vectors(tmp_path)}, count=np.arange(rows, dtype=np.int64))
    data = ItemDataModule(embeddings=embeddings, batch_size=512, seed=0)
    with own_memory() as peak:
        columns.fit(data.items.features["text"], data.items.count > 0)
        read = sum(len(batch.index) for batch in data.train_dataloader())
    assert read == rows
    assert peak() < 0.5 * rows * dim * 4 / 2**20


@contextmanager
def own_memory():
    """The most memory, in MiB, that is no file's and was not there before."""

    def now():
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) / 1024

    before, seen, over = now(), [], threading.Event()

    def watch():
        while not over.is_set():
            seen.append(now())
            over.wait(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: max([now(), *seen]) - before
    finally:
        over.set()
        watcher.join()
