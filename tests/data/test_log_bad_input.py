"""Whatever is wrong with raw logs is one line that names file and row, or a count; never a hang or a trace."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from raw_logs import START, expected, found, prepared, random_events, reader, write_raw

from adasid_exp.data.logs import Logs
from adasid_exp.types import UserError

ITEMS, ROWS, SHARDS = 30, 400, 4
EVENTS = random_events(5, ROWS, users=20, items=ITEMS)
Change = Callable[[Path], object]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw", EVENTS, shards=SHARDS, items=ITEMS)


def shard(number: int) -> str:
    return f"events/part-{number:03d}.parquet"


def rewrite(root: Path, number: int, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    file = root / shard(number)
    change(pl.read_parquet(file)).write_parquet(file, row_group_size=90)


def put(
    column: str, row: int, value: object, dtype: pl.DataType | None = None
) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A shard with one value changed; ``row`` counts from 1."""

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        values = frame[column].to_list()
        values[row - 1] = value
        return frame.with_columns(pl.Series(column, values, dtype=frame.schema[column]))

    return change


FAR = 4_102_444_800
ROW_FAULTS = {
    "negative user": ("user_id", -1, "user id -1 is missing or negative", "user id out of range"),
    "no user": ("user_id", None, "user id .*is missing", "user id out of range"),
    "negative item": ("item_id", -7, "item id -7 is missing or negative", "item id out of range"),
    "unknown item": ("item_id", 999_999, "item id 999999 is not in", "event with an item the catalogue lacks"),
    "no time": ("timestamp", None, "timestamp is missing", "row without timestamp"),
    "too early": ("timestamp", 5, "timestamp 5 lies outside 2000", "timestamp out of range"),
    "too late": ("timestamp", FAR, f"timestamp {FAR} lies outside", "timestamp out of range"),
    "odd label": ("label", 2, "label 2.0 is neither 0 nor 1", "label out of range"),
}


@pytest.mark.parametrize("fault", ROW_FAULTS)
def test_a_bad_row_is_named_or_counted(raw: Path, tmp_path: Path, fault: str) -> None:
    column, value, said, reason = ROW_FAULTS[fault]
    place = 95  # in the second row group of the third shard, and an interaction
    rewrite(raw, 2, put("event", place, "click"))
    kept = pl.concat([pl.read_parquet(raw / shard(n)).with_row_index("row", offset=1) for n in range(SHARDS)])
    rewrite(raw, 2, put(column, place, value))
    with pytest.raises(UserError, match=rf"^{raw}/{shard(2)}, row {place}: {said}.*data.on_bad_row=skip[^\n]*$"):
        prepared(reader(raw), tmp_path / "stop")
    logs = prepared(reader(raw, on_bad_row="skip"), tmp_path / "skip")
    assert logs.about["skipped"] == {reason: 1}
    assert any(f"1 x {reason}" in note for note in logs.about["notes"])
    before = sum(pl.read_parquet(raw / shard(n)).height for n in range(2))
    rows = [row for number, row in enumerate(kept.to_dicts()) if number != before + place - 1]
    ids = pl.read_parquet(sorted((raw / "items").glob("*")))["item_id"].to_list()
    assert found(logs) == expected(rows, ids, minimum=0, keep=8)


def test_many_bad_rows_are_one_line(raw: Path, tmp_path: Path) -> None:
    rewrite(raw, 1, lambda frame: frame.with_columns(pl.lit(7, dtype=pl.Int64).alias("timestamp")))
    rows = pl.read_parquet(raw / shard(1)).height
    logs = prepared(reader(raw, on_bad_row="skip"), tmp_path / "skip")
    assert logs.about["skipped"] == {"timestamp out of range": rows}


def test_empty_text_ids(tmp_path: Path) -> None:
    events = EVENTS.with_columns(pl.col("user_id").cast(pl.String), pl.format("i{}", "item_id").alias("item_id"))
    raw = write_raw(tmp_path / "raw", events, shards=1, items=ITEMS)
    rewrite(raw, 0, put("user_id", 3, ""))
    with pytest.raises(UserError, match="row 3: user id is missing"):
        prepared(reader(raw), tmp_path / "stop")


def test_a_clock_going_backwards(raw: Path, tmp_path: Path) -> None:
    """Rows 1 to 90 are a row group of their own: what lies above it does not count."""
    times = START + np.arange(pl.read_parquet(raw / shard(0)).height)
    times[[4, 50]] -= 100
    times[90:] -= 1000
    for number in range(1, SHARDS):
        rewrite(raw, number, lambda frame: frame.sort("timestamp"))
    rewrite(raw, 0, lambda frame: frame.with_columns(pl.Series("timestamp", times)))
    form = {"lateness": 60}
    with pytest.raises(UserError, match=r"row 5: timestamp \d+ lies more than 60 s before .* \(and 1 more such rows\)"):
        prepared(reader(raw, form=form), tmp_path / "stop")
    logs = prepared(reader(raw, form=form, on_bad_row="skip"), tmp_path / "skip")
    assert logs.about["skipped"] == {"clock going backwards": 2}
    assert prepared(reader(raw, form={"lateness": 100}), tmp_path / "late").about["skipped"] == {}


def truncated(raw: Path) -> None:
    file = raw / shard(1)
    file.write_bytes(file.read_bytes()[:-20])


def empty(raw: Path) -> None:
    (raw / shard(1)).write_bytes(b"")


def without_column(raw: Path) -> None:
    rewrite(raw, 1, lambda frame: frame.drop("timestamp"))


def other_type(raw: Path) -> None:
    rewrite(raw, 1, lambda frame: frame.with_columns(pl.col("user_id").cast(pl.String)))


def unusable_type(raw: Path) -> None:
    rewrite(raw, 1, lambda frame: frame.with_columns(pl.col("timestamp").cast(pl.Float64)))


def listed(change: Change) -> Change:
    """The same with a list of shards, made before."""

    def with_list(raw: Path) -> None:
        files = sorted((raw / "events").glob("*.parquet"))
        (raw / "shards.json").write_text(json.dumps({f"events/{f.name}": pl.read_parquet(f).height for f in files}))
        change(raw)

    return with_list


def removed(raw: Path) -> None:
    (raw / shard(1)).unlink()


def shorter(raw: Path) -> None:
    rewrite(raw, 1, lambda frame: frame[:-3])


SHARD_FAULTS: dict[str, tuple[Change, str, str]] = {
    "truncated": (truncated, "is no readable Parquet file", "shard without a readable footer"),
    "empty": (empty, "is no readable Parquet file", "shard without a readable footer"),
    "no column": (without_column, "column timestamp holds nothing, wanted integers", "another schema"),
    "other type": (other_type, "column user_id holds text, wanted integers", "another schema"),
    "unusable type": (unusable_type, "column timestamp holds double, wanted integers", "another schema"),
    "missing": (
        listed(lambda raw: (raw / shard(1)).unlink()),
        "is missing, although shards.json lists it",
        "missing shard",
    ),
    "shorter": (listed(shorter), r"holds \d+ rows, shards.json lists \d+", "another length"),
}


@pytest.mark.parametrize("fault", SHARD_FAULTS)
def test_a_bad_shard_is_named_or_left_out(raw: Path, tmp_path: Path, fault: str) -> None:
    change, said, reason = SHARD_FAULTS[fault]
    rows = [row for n in (0, 2, 3) for row in pl.read_parquet(raw / shard(n)).to_dicts()]
    change(raw)
    with pytest.raises(UserError, match=rf"^{raw}/{shard(1)}: [^\n]*{said}[^\n]*$"):
        reader(raw).fingerprint()
    logs = prepared(reader(raw, on_bad_row="skip"), tmp_path / "skip")
    ((counted, number),) = logs.about["skipped"].items()
    assert reason in counted
    assert number >= 1
    ids = pl.read_parquet(sorted((raw / "items").glob("*")))["item_id"].to_list()
    assert found(logs) == expected(rows, ids, minimum=0, keep=8)


def test_the_first_shard_may_be_the_bad_one(raw: Path, tmp_path: Path) -> None:
    rewrite(raw, 0, lambda frame: frame.drop("timestamp"))
    with pytest.raises(UserError, match=f"{shard(0)}: column timestamp holds nothing"):
        reader(raw).fingerprint()
    assert len(reader(raw, on_bad_row="skip").surveyed[0].shards) == SHARDS - 1


def damage(file: Path) -> None:
    """Bytes in the middle of the second row group overwritten; the footer stays."""
    column = pq.ParquetFile(file).metadata.row_group(1).column(0)
    data = bytearray(file.read_bytes())
    first = column.dictionary_page_offset or column.data_page_offset
    data[first : first + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file.write_bytes(bytes(data))


def test_a_damaged_row_group_is_named_and_only_it_is_lost(raw: Path, tmp_path: Path) -> None:
    damage(raw / shard(1))
    rows = min(90, pl.scan_parquet(raw / shard(1)).select(pl.len()).collect().item() - 90)
    with pytest.raises(UserError, match=rf"^{raw}/{shard(1)}, row 91: the shard cannot be read from row 91 on[^\n]*$"):
        prepared(reader(raw), tmp_path / "stop")
    logs = prepared(reader(raw, on_bad_row="skip"), tmp_path / "skip")
    assert logs.about["skipped"] == {"row of an unreadable shard": rows}
    large = prepared(reader(raw, on_bad_row="skip", memory_gib=1.0), tmp_path / "large")
    assert large.about["files"] == logs.about["files"]  # what is lost does not depend on how much is read at once


def test_a_shard_that_disappears_while_reading(raw: Path, tmp_path: Path) -> None:
    logs = reader(raw)
    assert logs.surveyed[0].rows  # the footers were read
    (raw / shard(3)).unlink()
    with pytest.raises(UserError, match=f"{shard(3)}, row 1: the shard cannot be read"):
        prepared(logs, tmp_path / "stop")


def no_items(raw: Path) -> None:
    for file in (raw / "items").glob("*"):
        file.unlink()


def item_column(raw: Path) -> None:
    pl.read_parquet(raw / "items/b.parquet").rename({"item_id": "id"}).write_parquet(raw / "items/b.parquet")


def item_type(raw: Path) -> None:
    frame = pl.read_parquet(raw / "items/b.parquet")
    frame.with_columns(pl.col("item_id").cast(pl.String)).write_parquet(raw / "items/b.parquet")


def item_schema(raw: Path) -> None:
    pl.read_parquet(raw / "items/b.parquet").drop("title").write_parquet(raw / "items/b.parquet")


def damaged_items(raw: Path) -> None:
    (raw / "items/b.parquet").write_bytes(b"PAR1 and nothing more PAR1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_items, "items holds no .parquet table of items"),
        (item_column, "items/b.parquet has no column item_id"),
        (item_type, "items/b.parquet, column item_id: the type is"),
        (item_schema, "items/b.parquet has other columns than the tables before it"),
        (damaged_items, "items/b.parquet cannot be read"),
    ],
)
def test_a_bad_table_of_items_is_named(raw: Path, tmp_path: Path, change: Change, said: str) -> None:
    change(raw)
    for policy in ("error", "skip"):  # without its catalogue nothing can be prepared
        with pytest.raises(UserError, match=rf"^{raw}/{said}[^\n]*$"):
            prepared(reader(raw, on_bad_row=policy), tmp_path / policy)


def test_repeated_and_missing_items(raw: Path, tmp_path: Path) -> None:
    """The first row of a repeated id counts; embeddings stay in line with what is left."""
    frame = pl.read_parquet(raw / "items/b.parquet")
    ids = frame["item_id"].to_list()
    gone = ids[5]
    ids[5], ids[7] = ids[2], ids[2]
    lost = frame["item_id"][7]
    frame.with_columns(pl.Series("item_id", ids)).write_parquet(raw / "items/b.parquet")
    for number in range(SHARDS):
        rewrite(raw, number, lambda frame: frame.filter(~pl.col("item_id").is_in([gone, lost])))
    with pytest.raises(
        UserError, match=rf"items/b.parquet, row 6: item_id {ids[2]} occurs .* \(and 1 more such rows\)"
    ):
        prepared(reader(raw), tmp_path / "stop")
    logs = prepared(reader(raw, on_bad_row="skip"), tmp_path / "skip")
    assert logs.about["skipped"] == {"duplicate item": 2}
    kept = logs.catalogue().collect()["item_id"].to_numpy()
    assert len(kept) == ITEMS - 2
    np.testing.assert_array_equal(logs.embeddings("text").take(np.arange(len(kept)))[:, 0], kept)


def nan(raw: Path) -> None:
    vectors = np.load(raw / "embeddings/text/1.npy")
    vectors[[3, 4], 1] = np.nan
    np.save(raw / "embeddings/text/1.npy", vectors)


def too_few(raw: Path) -> None:
    np.save(raw / "embeddings/text/1.npy", np.load(raw / "embeddings/text/1.npy")[:-1])


def other_width(raw: Path) -> None:
    np.save(raw / "embeddings/text/1.npy", np.load(raw / "embeddings/text/1.npy")[:, :1])


def integers(raw: Path) -> None:
    np.save(raw / "embeddings/text/1.npy", np.load(raw / "embeddings/text/1.npy").astype(np.int64))


def no_array(raw: Path) -> None:
    (raw / "embeddings/text/1.npy").write_bytes(b"not numpy")


@pytest.mark.parametrize(
    ("change", "said", "modalities"),
    [
        (nan, r"text/1.npy, row 4: the embedding holds NaN or Inf \(and 1 more such rows\)", ("text",)),
        (too_few, f"end with row {ITEMS - 1}, the tables of items with row {ITEMS}", ()),
        (other_width, r"shape \(15, 1\) is no embedding", ()),
        (integers, "type int64", ()),
        (no_array, "is no readable .npy array", ()),
    ],
)
def test_bad_embeddings(raw: Path, tmp_path: Path, change: Change, said: str, modalities: tuple[str, ...]) -> None:
    change(raw)
    with pytest.raises(UserError, match=rf"^{raw}/embeddings/text/1.npy[^\n]*$") as caught:
        prepared(reader(raw), tmp_path / "stop")
    assert re.search(said, str(caught.value))
    logs = prepared(reader(raw, on_bad_row="skip"), tmp_path / "skip")
    assert logs.modalities == modalities
    assert sum(logs.about["skipped"].values()) == (2 if modalities else 1)
    if modalities:
        assert np.isfinite(logs.embeddings("text").take(np.arange(ITEMS))).all()


def test_no_folder_and_no_such_protocol(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{tmp_path}/none/events holds no .parquet shard[^\n]*$"):
        reader(tmp_path / "none").fingerprint()
    with pytest.raises(UserError, match="data.root=zz://bucket cannot be opened"):
        reader("zz://bucket").fingerprint()
    fsspec.filesystem("memory").makedirs("/void", exist_ok=True)
    with pytest.raises(UserError, match="memory://void/events holds no"):
        reader("memory://void").fingerprint()


def test_a_list_that_is_none(raw: Path) -> None:
    (raw / "shards.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="shards.json is no list"):
        reader(raw).fingerprint()


def test_only_listed_shards_are_read(raw: Path) -> None:
    rows = pl.read_parquet(raw / shard(1)).height
    (raw / "shards.json").write_text(json.dumps({shard(1): rows}))
    assert reader(raw).surveyed[0].rows == rows


def test_nothing_left(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no interaction is left with data.minimum_interactions=1000"):
        prepared(reader(raw), tmp_path, minimum=1000)
    with pytest.raises(UserError, match=r"no interaction is left.*data.events.interactions"):
        prepared(reader(raw, form={"interactions": ["glance"]}), tmp_path / "glance")


def test_the_policy_is_one_of_two() -> None:
    with pytest.raises(UserError, match="choose error or skip"):
        reader("anywhere", on_bad_row="hide")
    assert isinstance(reader("anywhere"), Logs)
