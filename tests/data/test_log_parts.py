"""The parts of the preparation: orders without sorts, hashes that last, windows, cuts, engines, pieces."""

from __future__ import annotations

import io
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from adasid_exp.data import pieces
from adasid_exp.data.engines import Local, Ray
from adasid_exp.data.log_core import add_counts, save_counts
from adasid_exp.data.log_edges import LogWindows
from adasid_exp.data.log_ids import encode, encode_sorted, hash_ids
from adasid_exp.data.log_order import by_group, by_time, lower_bound, repeats
from adasid_exp.data.log_spill import pack, unpack
from adasid_exp.data.log_survey import Shard, cut
from adasid_exp.data.pieces import Piece, finish_all
from adasid_exp.types import UserError

TABLE = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 3)), max_size=60)
MASK = (1 << 64) - 1


def columns(table: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    group, time, value = np.array(table, dtype=np.int64).reshape(-1, 3).T
    return group.astype(np.int32), time, value.astype(np.int32)


@given(TABLE)
def test_by_group_is_a_stable_sort(table: list[tuple[int, int, int]]) -> None:
    group = columns(table)[0]
    bounds, order = by_group(group, 6)
    np.testing.assert_array_equal(order, np.argsort(group, kind="stable"))
    np.testing.assert_array_equal(bounds, np.searchsorted(np.sort(group), np.arange(7)))


@given(TABLE)
def test_by_time_is_a_stable_sort_of_what_is_out_of_order(table: list[tuple[int, int, int]]) -> None:
    group, time, _ = columns(sorted(table, key=lambda row: row[0]))
    order = by_time(group, time)
    wanted = np.lexsort((time, group))
    np.testing.assert_array_equal(np.arange(len(group)) if order is None else order, wanted)
    assert (order is None) == bool((wanted == np.arange(len(group))).all())


@given(TABLE)
def test_repeats_are_all_but_the_first(table: list[tuple[int, int, int]]) -> None:
    rows = sorted(table, key=lambda row: row[:2])
    seen: Counter[tuple[int, int, int]] = Counter()
    wanted = []
    for row in rows:
        wanted.append(seen[row] > 0)
        seen[row] += 1
    assert repeats(*columns(rows)).tolist() == np.flatnonzero(wanted).tolist()


@given(st.lists(st.lists(st.integers(0, 9), max_size=9), min_size=1, max_size=6), st.data())
def test_lower_bound_is_bisection(lists: list[list[int]], data: st.DataObject) -> None:
    values = np.array([v for part in lists for v in sorted(part)], dtype=np.int64)
    stops = np.cumsum([len(part) for part in lists])
    which = np.array(data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=20)), dtype=np.int64)
    wanted = np.array([data.draw(st.integers(-1, 10)) for _ in which], dtype=np.int64)
    first, last = (stops - [len(part) for part in lists])[which], stops[which]
    found = lower_bound(values, first, last, wanted)
    for place, low, high, value in zip(found, first, last, wanted, strict=True):
        assert place == low + np.searchsorted(values[low:high], value)


def splitmix(state: int) -> int:
    """The published finalizer, in unbounded integers."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def plain_hash(text: str) -> int:
    data = text.encode()
    state = splitmix(len(data))
    for word in range(0, len(data), 8):
        state = splitmix(state ^ int.from_bytes(data[word : word + 8], "little"))
    return state


TEXTS = ["", "a", "b", "user-1", "user-2", "eight888", "nine99999", "ünïcödé and a long tail", "x" * 100]


def test_the_hash_is_the_one_written_down() -> None:
    """splitmix64(0)'s first number is published: 0xE220A8397B1DCDAF."""
    assert splitmix(0) == 0xE220A8397B1DCDAF
    numbers = [0, 1, 2, 10**18, 2**63 - 1]
    assert hash_ids(pl.Series(numbers)).tolist() == [splitmix(number) for number in numbers]
    assert hash_ids(pl.Series(TEXTS)).tolist() == [plain_hash(text) for text in TEXTS]
    assert hash_ids(pl.Series(TEXTS)[3:6]).tolist() == [plain_hash(text) for text in TEXTS[3:6]]
    assert hash_ids(pl.Series([], dtype=pl.String)).tolist() == []


def test_the_hash_spreads_neighbors_evenly() -> None:
    """64 parts of 64,000: the chi-square statistic of 63 degrees of freedom stays below 120 (p = 2e-5)."""
    for ids in (pl.Series(np.arange(64_000)), pl.Series([f"u{n:06d}" for n in range(64_000)])):
        counts = np.bincount((hash_ids(ids) % np.uint64(64)).astype(np.int64), minlength=64)
        assert ((counts - 1000) ** 2 / 1000).sum() < 120


@given(st.lists(st.text(max_size=3), max_size=30))
def test_encoding_can_be_undone(texts: list[str]) -> None:
    ids = pl.Series("id", texts, dtype=pl.String)
    distinct, code = encode(ids)
    assert [distinct[int(c)] for c in code] == texts
    assert len(distinct) == len(set(texts))
    ordered, place = encode_sorted(ids)
    assert ordered.to_list() == sorted(set(texts), key=str.encode)
    assert [ordered[int(p)] for p in place] == texts


def test_pack_and_unpack() -> None:
    interaction, label = np.array([0, 1, 0, 1, 0, 1], bool), np.array([-1, -1, 0, 0, 1, 1], np.int8)
    again = unpack(pack(interaction, label))
    np.testing.assert_array_equal(again[0], interaction)
    np.testing.assert_array_equal(again[1], label)
    assert again[1].dtype == np.int8


def test_counts_add_up(tmp_path: Path) -> None:
    parts = [np.array([3, 3, 9]), np.array([], dtype=np.int64), np.array([9, 2], dtype=np.int32)]
    folders = []
    for number, values in enumerate(parts):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        save_counts(folders[-1], "x", values)
    assert add_counts(folders, "x", 10).tolist() == [0, 0, 1, 2, 0, 0, 0, 0, 0, 2]


def test_windows_by_hand() -> None:
    """Ten impressions; a fifth of them must lie in the test window: the last hour has one, the last two have three."""
    windows = LogWindows(test_share=0.2, validation_share=0.5, count_days=1)
    hours, counts = np.array([100, 101, 105, 110, 111]), np.array([2, 3, 2, 2, 1])
    hour = 3600 * 1000
    assert windows.edges(hours, counts, 1000) == {
        "test_start": 110 * hour,
        "validation_start": 101 * hour,  # of the seven before it, 105 has two, 101 and 105 have five
        "count_start": (110 - 24) * hour,
    }


def test_shards_are_cut_into_pieces_in_order() -> None:
    sizes = {"a": (3, 3, 3), "b": (8,), "c": (1, 2)}
    shards = [Shard(name=name, group_rows=rows) for name, rows in sizes.items()]
    found = [[(c.name, c.groups, c.first_row, c.rows) for c in piece] for piece in cut(shards, 6)]
    assert found == [
        [("a", (0, 1), 0, 6)],
        [("a", (2,), 6, 3)],
        [("b", (0,), 0, 8)],  # larger than a piece may be: alone
        [("c", (0, 1), 0, 3)],
    ]
    assert cut([Shard(name="empty", group_rows=())], 6) == []


def test_local_yields_what_is_done_and_stops_at_a_fault() -> None:
    done = []
    assert list(Local(workers=1).map(done.append, [1, 2])) == done == [1, 2]
    with pytest.raises(ZeroDivisionError):
        list(Local(workers=1).map(lambda x: done.append(1 / x), [1, 0, 1]))
    assert len(done) == 3


def test_ray_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="engine=ray needs Ray: pip install"):
        list(Ray(address=None, cpus=1, in_flight=1).map(print, [1]))


def test_the_bar_tells_rows_a_second_and_time_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Drawn on a terminal of the test's own."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(pieces, "Console", lambda **_: screen)
    jobs = [Wait(folder=tmp_path / str(number), rows=500) for number in range(4)]
    finish_all(Local(workers=1), "reading events", jobs, bar=True)
    shown = screen.file.getvalue()
    assert "reading events" in shown
    assert re.search(r"[\d,]+ rows/s", shown)
    assert re.search(r"0:00:0\d", shown)
    finish_all(Local(workers=1), "again", jobs, bar=False)
    assert screen.file.getvalue() == shown


@dataclass(frozen=True, kw_only=True)
class Wait(Piece):
    """A tenth of a second."""

    def make(self, folder: Path) -> dict:
        time.sleep(0.1)
        return {}
