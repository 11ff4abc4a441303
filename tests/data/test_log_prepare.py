"""Raw logs to prepared logs: equal to a plain Python reference, whatever the pieces and whoever interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import polars as pl
import pytest
from raw_logs import expected, found, prepared, random_events, reader, write_raw

from adasid_exp.artifacts.prepared_logs import PreparedLogs
from adasid_exp.data.engines import Local, Ray
from adasid_exp.data.pieces import Piece
from adasid_exp.types import UserError

ITEMS = 100
EVENTS = random_events(0, 1500, users=150, items=90)


def as_text(events: pl.DataFrame) -> pl.DataFrame:
    return events.with_columns(
        pl.format("ü{}", "user_id").alias("user_id"), pl.format("i{}", "item_id").alias("item_id")
    )


def item_ids(root: Path) -> list:
    return pl.read_parquet(sorted((root / "items").glob("*.parquet")))["item_id"].to_list()


def digests(logs: PreparedLogs) -> dict:
    return logs.about["files"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return write_raw(tmp_path_factory.mktemp("raw"), EVENTS, shards=4, items=ITEMS)


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory) -> PreparedLogs:
    return prepared(reader(raw), tmp_path_factory.mktemp("whole"), minimum=4)


@pytest.mark.parametrize("minimum", [0, 1, 4, 5])
def test_it_equals_the_plain_reference(raw: Path, tmp_path: Path, minimum: int) -> None:
    logs = prepared(reader(raw), tmp_path, minimum)
    wanted = expected(EVENTS.to_dicts(), item_ids(raw), minimum=minimum, keep=8)
    assert found(logs) == wanted
    assert any(len(history) == 8 for history in wanted.histories.values())  # some were cut
    statistics = logs.about["statistics"]
    assert statistics["interactions"] == sum(wanted.counts.values())
    assert statistics["impressions"] == sum(map(len, wanted.impressions.values()))
    assert statistics["positive_impressions"] == sum(i[2] for own in wanted.impressions.values() for i in own)
    if minimum:  # the law of a core, and that it took more than one round to get there
        assert min(wanted.counts.values()) >= minimum


def test_the_core_takes_several_rounds(raw: Path, tmp_path: Path) -> None:
    notes = prepared(reader(raw), tmp_path, 5).about["notes"]
    (rounds,) = [int(note.split()[2]) for note in notes if "-core filter" in note]
    assert rounds >= 3


def test_text_ids_and_dates(tmp_path: Path) -> None:
    events = as_text(EVENTS).with_columns(pl.from_epoch("timestamp").dt.replace_time_zone("UTC"))
    events = events.with_columns(pl.col("event").cast(pl.Categorical), pl.col("label").cast(pl.Boolean))
    raw = write_raw(tmp_path / "raw", events, shards=3, items=ITEMS)
    rows = as_text(EVENTS).to_dicts()
    assert found(prepared(reader(raw), tmp_path, 4)) == expected(rows, item_ids(raw), minimum=4, keep=8)


def test_milliseconds(raw: Path, tmp_path: Path) -> None:
    events = EVENTS.with_columns(pl.col("timestamp") * 1000)
    fine = write_raw(tmp_path / "raw", events, shards=4, items=ITEMS)
    one, other = (
        prepared(reader(raw), tmp_path / "s"),
        prepared(reader(fine, form={"ticks_per_second": 1000}), tmp_path),
    )
    for left, right in zip(one.partitions, other.partitions, strict=True):
        np.testing.assert_array_equal(left.timestamp * 1000, right.timestamp)
        np.testing.assert_array_equal(left.item, right.item)
        np.testing.assert_array_equal(left.impression_count, right.impression_count)
        np.testing.assert_array_equal(left.history_end, right.history_end)
    assert {k: v * 1000 for k, v in one.about["windows"].items()} == other.about["windows"]


def test_without_event_and_label_all_rows_are_interactions(raw: Path, tmp_path: Path) -> None:
    logs = prepared(reader(raw, form={"event": None, "label": None}), tmp_path)
    rows = [{**row, "event": "click", "label": None} for row in EVENTS.to_dicts()]
    assert found(logs) == expected(rows, item_ids(raw), minimum=0, keep=8)
    assert logs.about["windows"] == {"count_start": None, "validation_start": None, "test_start": None}


def test_embeddings_and_columns_follow_their_items(undisturbed: PreparedLogs) -> None:
    items = undisturbed.catalogue().collect()
    ids = items["item_id"].to_numpy()
    np.testing.assert_array_equal(
        undisturbed.embeddings("text").take(np.arange(len(ids))), np.stack([ids, -ids], axis=1)
    )
    assert items["title"].to_list() == [f"item {number}" for number in ids]
    assert 0 < len(ids) < ITEMS  # the filter took some out


def test_pieces_do_not_show(raw: Path, undisturbed: PreparedLogs, tmp_path: Path) -> None:
    """How many rows are read at once is a matter of memory alone."""
    large = prepared(reader(raw, memory_gib=1.0, partitions=3), tmp_path, 4)
    assert digests(large) == digests(undisturbed)


def test_partitions_hold_the_same_users_in_another_order(raw: Path, undisturbed: PreparedLogs, tmp_path: Path) -> None:
    one = prepared(reader(raw, partitions=1), tmp_path, 4)
    assert found(one) == found(undisturbed)
    assert len(one.partitions) == 1
    assert len(undisturbed.partitions) == 3


def test_a_url_gives_the_same_bytes(raw: Path, undisturbed: PreparedLogs, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(raw), "/shelf", recursive=True)
    try:
        remote = prepared(reader("memory://shelf"), tmp_path, 4)
        assert digests(remote) == digests(undisturbed)
        assert reader("memory://shelf").fingerprint() == reader(raw).fingerprint()
    finally:
        memory.rm("/shelf", recursive=True)


@pytest.mark.slow
def test_processes_give_the_same_bytes(raw: Path, undisturbed: PreparedLogs, tmp_path: Path) -> None:
    assert digests(prepared(reader(raw, engine=Local(workers=2)), tmp_path, 4)) == digests(undisturbed)


def test_ray_gives_the_same_bytes(raw: Path, undisturbed: PreparedLogs, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    try:
        engine = Ray(address=None, cpus=0.5, in_flight=4)
        assert digests(prepared(reader(raw, engine=engine), tmp_path, 4)) == digests(undisturbed)
        with pytest.raises(UserError, match=r"part-000.parquet, row 1: timestamp \d+ lies outside 2099"):
            prepared(reader(raw, engine=engine, form={"since": "2099-01-01"}), tmp_path / "fault")
    finally:
        ray.shutdown()


class StopAfter(Local):
    """Stops as a killed process would, after so many pieces."""

    def __init__(self, pieces: int) -> None:
        super().__init__(workers=1)
        self.left = pieces

    def map(self, work, jobs):
        for job in jobs:
            if self.left == 0:
                _tear(job)
                raise KeyboardInterrupt
            self.left -= 1
            work(job)
            yield job


def _tear(piece: Piece) -> None:
    """What a kill leaves of the piece it hits."""
    folder = piece.folder.with_name(f".{piece.folder.name}.123")
    folder.mkdir(parents=True)
    (folder / "item.npy").write_bytes(b"torn")


def test_interrupted_after_any_piece_it_goes_on_to_the_same_bytes(
    raw: Path, undisturbed: PreparedLogs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One preparation, stopped after every second piece until it comes through."""
    work = tmp_path / "work"
    work.mkdir()
    attempts = 0
    while True:
        out = tmp_path / f"out{attempts}"
        out.mkdir()
        try:
            reader(raw, engine=StopAfter(2)).prepare(work=work, out=out, minimum_interactions=4)
            break
        except KeyboardInterrupt:
            attempts += 1
            assert attempts < 60
    assert attempts > 8
    assert digests(PreparedLogs.load(out)) == digests(undisturbed)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from types import SimpleNamespace
from raw_logs import reader
reader({raw!r}).prepare(work=Path({work!r}), out=Path({out!r}), minimum_interactions=4)
"""


def finished_pieces(work: Path) -> int:
    """Counted while another process removes folders; `Path.rglob` stumbles over those, `os.walk` goes on."""
    return sum("facts.json" in files for _, _, files in os.walk(work))


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(
    raw: Path, undisturbed: PreparedLogs, tmp_path: Path
) -> None:
    """A process of its own, killed with SIGKILL while pieces appear."""
    work = tmp_path / "work"
    work.mkdir()
    generator = np.random.default_rng(3)
    for attempt in range(9):
        out = tmp_path / f"out{attempt}"
        out.mkdir()
        code = KILLED.format(tests=str(Path(__file__).parent), raw=str(raw), work=str(work), out=str(out))
        process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
        before = finished_pieces(work)
        wanted = before + int(generator.integers(2, 12)) if attempt < 2 else 10_000
        while process.poll() is None and finished_pieces(work) < wanted:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
    assert attempt >= 2
    assert digests(PreparedLogs.load(out)) == digests(undisturbed)


def test_the_fingerprint_follows_the_data_not_the_means(raw: Path, tmp_path: Path) -> None:
    same = reader(raw, engine=Local(workers=2), memory_gib=1.0, progress=True).fingerprint()
    assert same == reader(raw).fingerprint()
    json.dumps(same)  # plain data
    assert reader(raw, keep=9).fingerprint() != same
    assert reader(raw, partitions=2).fingerprint() != same
    copy = write_raw(tmp_path / "copy", EVENTS, shards=4, items=ITEMS)
    assert reader(copy).fingerprint() == same
    np.save(copy / "embeddings/text/0.npy", np.load(copy / "embeddings/text/0.npy") + 1)
    assert reader(copy).fingerprint() != same


def test_partitions_follow_from_rows_and_memory(raw: Path) -> None:
    """128 bytes a row, half of the memory."""
    rows = len(EVENTS)
    assert reader(raw, partitions=None, memory_gib=2 * 128 * rows / 2**30).partitions == 1
    assert reader(raw, partitions=None, memory_gib=2 * 128 * rows / 2**30 / 2.5).partitions == 3


@pytest.mark.parametrize(
    ("million", "read", "partitions"), [(1, 1, 1), (100, 1, 96), (10_000, 8, 597), (75_000, 8, 4471)]
)
def test_pieces_grow_with_the_logs_until_memory_bounds_them(
    million: int, read: int, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, 4 GiB: 2^31 / 256 = 8 Mi rows are read, 2^31 / 128 = 16 Mi sorted at once; 1 Mi below 256 Mi rows."""
    logs = reader("nowhere", memory_gib=4, partitions=None)
    monkeypatch.setattr(type(logs), "surveyed", (SimpleNamespace(rows=million * 10**6), {}))
    assert logs.rows_at_once == read << 20
    assert logs.partitions == partitions
