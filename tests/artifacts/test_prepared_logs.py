"""Prepared logs come back as they were written; a damaged folder is named in one line."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.prepared_logs import (
    INDEX,
    SCHEMA,
    PartitionArrays,
    PreparedLogs,
    partition_name,
    save_embeddings,
    write_index,
)
from adasid_exp.types import UserError


def arrays(users: list[list[int]], impressions: list[tuple[int, int, int]], prefix: str) -> PartitionArrays:
    """Users' item sequences at ticks 10, 20, ...; impressions as (user, item, ticks)."""
    lengths = [len(items) for items in users]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    user, item, ticks = (np.array(column, dtype=np.int64) for column in zip(*impressions, strict=True))
    return PartitionArrays(
        user_id=pl.Series([f"{prefix}{number}" for number in range(len(users))]),
        offsets=offsets,
        item=np.array([item for items in users for item in items], dtype=np.int32),
        timestamp=np.array([10 * (step + 1) for items in users for step in range(len(items))], dtype=np.int64),
        impression_user=user.astype(np.int32),
        impression_item=item.astype(np.int32),
        impression_timestamp=ticks,
        impression_count=(item * 7).astype(np.int32),
        label=(item % 2).astype(np.int8),
        history_end=offsets[user] + np.minimum((ticks - 1) // 10, np.array(lengths)[user]),
    )


FIRST = arrays([[0, 1], [], [2, 3, 4]], [(0, 1, 15), (2, 4, 40)], "a")
SECOND = arrays([[4]], [(0, 3, 5)], "b")
VECTORS = np.arange(10, dtype=np.float32).reshape(5, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, part in enumerate([FIRST, SECOND]):
        part.save(tmp_path / partition_name(number))
    items = {"item_id": [f"i{n}" for n in range(5)], "count": [1, 1, 1, 1, 2], "title": list("abcde")}
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    save_embeddings(tmp_path, "text", [VECTORS[:2].astype(np.float16), VECTORS[2:2], VECTORS[2:].astype(np.float16)])
    write_index(tmp_path, facts={"windows": {"test_start": 30}})
    return tmp_path


def test_arrays_and_sizes_come_back(folder: Path) -> None:
    logs = PreparedLogs.load(folder)
    assert [(p.first_user, p.users, p.rows, p.impressions) for p in logs.partitions] == [(0, 3, 5, 2), (3, 1, 1, 1)]
    assert (logs.users, logs.items, logs.about["rows"], logs.about["impressions"]) == (4, 5, 6, 3)
    for written, read in zip([FIRST, SECOND], logs.partitions, strict=True):
        for name, dtype in SCHEMA.items():
            array = getattr(read, name)
            assert array.dtype == dtype
            np.testing.assert_array_equal(array, getattr(written, name))
        assert read.user_ids().to_list() == written.user_id.to_list()
    assert logs.about["windows"] == {"test_start": 30}
    assert logs.item_ids().tolist() == ["i0", "i1", "i2", "i3", "i4"]
    assert logs.counts().tolist() == [1, 1, 1, 1, 2]


def test_the_index_holds_the_digest_of_every_other_file(folder: Path) -> None:
    files = json.loads((folder / INDEX).read_text())["files"]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {INDEX}
    assert set(files) == names
    for name, record in files.items():
        assert record["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_embeddings_are_taken_across_shards_in_any_order(folder: Path) -> None:
    text = PreparedLogs.load(folder).embeddings("text")
    assert (len(text), text.dim) == (5, 2)
    rows = np.array([4, 0, 2, 2, 1])
    taken = text.take(rows)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, VECTORS[rows])
    assert text.take(rows[:0]).shape == (0, 2)
    with pytest.raises(IndexError):
        text.take(np.array([5]))
    with pytest.raises(IndexError):
        text.take(np.array([-1]))


def test_pickles_hold_paths_not_arrays(folder: Path) -> None:
    logs = PreparedLogs.load(folder)
    text = logs.embeddings("text")
    before = len(pickle.dumps((logs, text)))
    for part in logs.partitions:
        assert part.item.sum() >= 0
    text.take(np.arange(5))
    assert len(pickle.dumps((logs, text))) == before
    again, vectors = pickle.loads(pickle.dumps((logs, text)))
    np.testing.assert_array_equal(again.partitions[0].item, FIRST.item)
    np.testing.assert_array_equal(vectors.take(np.arange(5)), VECTORS)


def test_arrays_are_mapped_not_read(folder: Path) -> None:
    part = PreparedLogs.load(folder).partitions[0]
    assert isinstance(part.item, np.memmap)
    assert not part.item.flags.writeable


@pytest.mark.parametrize("name", ["partition-00001/item.npy", "items.parquet", "embeddings/text/00000.npy"])
def test_a_truncated_or_missing_file_is_named(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{name} has"):
        PreparedLogs.load(folder)
    path.unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        PreparedLogs.load(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"format": "adasid-logs", "version": 99}'])
def test_an_index_of_another_kind_is_refused(folder: Path, text: str) -> None:
    (folder / INDEX).write_text(text)
    with pytest.raises(UserError, match=INDEX):
        PreparedLogs.load(folder)


def test_an_index_cannot_name_files_outside(folder: Path) -> None:
    (folder.parent / "outside.npy").write_bytes(b"x")
    for name in ("../outside.npy", str(folder.parent / "outside.npy")):
        about = json.loads((folder / INDEX).read_text())
        about["files"] = {name: {"bytes": 1, "sha256": ""}}
        (folder / INDEX).write_text(json.dumps(about))
        with pytest.raises(UserError, match="outside of itself"):
            PreparedLogs.load(folder)


def test_an_unknown_modality_names_those_there_are(folder: Path) -> None:
    with pytest.raises(UserError, match=r"'vision' \(there are: text\)"):
        PreparedLogs.load(folder).embeddings("vision")


def test_arrays_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="item is int64"):
        PartitionArrays(**{**vars(FIRST), "item": FIRST.item.astype(np.int64)})
    with pytest.raises(ValueError, match="timestamp"):
        PartitionArrays(**{**vars(FIRST), "timestamp": FIRST.timestamp[:-1]})
    with pytest.raises(ValueError, match="offsets run"):
        PartitionArrays(**{**vars(FIRST), "offsets": FIRST.offsets + 1})
