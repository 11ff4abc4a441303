"""Vectors of one modality: shards that become one mapped file."""

import numpy as np
import pytest

from adasid_exp.artifacts import item_vectors
from adasid_exp.artifacts.item_vectors import SHARD, VECTORS, as_one_array, open_vectors


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_shards_become_one_mapped_file_once(tmp_path, monkeypatch, dtype):
    # Reference: the shards one after the other. Blocks of 4 rows cross the border between shards of 5.
    monkeypatch.setattr(item_vectors, "BLOCK", 4)
    table = np.random.default_rng(0).normal(size=(13, 3)).astype(dtype)
    for number, rows in enumerate(np.split(table, [5, 10])):
        np.save(tmp_path / SHARD.format(number), rows)
    file = tmp_path / "work" / "items.npy"
    one = as_one_array(open_vectors(tmp_path), file)
    assert isinstance(one, np.memmap)
    assert one.dtype == np.float32
    assert np.array_equal(one, table.astype(np.float32))
    written = file.stat().st_mtime_ns
    assert np.array_equal(as_one_array(open_vectors(tmp_path), file), one)  # a resumed stage finds it
    assert file.stat().st_mtime_ns == written
    assert [path.name for path in file.parent.iterdir()] == ["items.npy"]


def test_one_file_is_taken_as_it_is(tmp_path):
    np.save(tmp_path / VECTORS, np.eye(3, dtype=np.float32))
    vectors = open_vectors(tmp_path)
    assert as_one_array(vectors, tmp_path / "work" / "items.npy") is vectors
    assert not (tmp_path / "work").exists()
