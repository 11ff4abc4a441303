"""`adasid data validate`: folders with planted faults; every one is found, with file, row and remedy."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from adasid_exp.commands.adasid import dispatch
from adasid_exp.data.tables import Tables

INTERACTIONS = {
    "user_id": ["u", None, "u", "v", "v", "v"],
    "item_id": ["a", "zz", "a", "b", "e", "q"],
    "timestamp": [1, -3, 1, 1_700_000_000_000, 5, 6],
    "rating": [5.0, 9.0, 1.0, 2.0, None, 3.0],
}
ITEMS = {"item_id": ["a", "b", "b", None, "e"], "title": ["x", "y", "z", "w", ""], "price": ["1", "2", "3", "4", "5"]}


def validated(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    code = dispatch(["data", "validate", str(folder), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def rows_of(found: dict[str, Any]) -> dict[tuple[str, str], list[int | None]]:
    """Rows by file and reason."""
    return {
        (Path(each["file"]).name, each["reason"]): [row["row"] for row in each["rows"]] for each in found["findings"]
    }


def test_every_planted_fault_of_tables_is_found_in_one_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame(INTERACTIONS).write_parquet(tmp_path / "interactions.parquet")
    pl.DataFrame(ITEMS).write_parquet(tmp_path / "items.parquet")
    np.save(tmp_path / "text.npy", np.array([[1, 2], [np.nan, 1], [1, np.inf]], dtype=np.float32))
    np.save(tmp_path / "text_other.npy", np.zeros((5, 2), dtype=np.float32))
    np.save(tmp_path / "vision.npy", np.arange(5))
    (tmp_path / "audio.npy").write_bytes(b"junk")
    code, found = validated(tmp_path, capsys)
    assert code == 1
    events, items = "interactions.parquet", "items.parquet"
    assert rows_of(found) == {  # as planted above, rows counted from 1
        (items, "column price of an unknown type"): [None],
        (items, "row without item_id"): [4],
        (items, "duplicate item"): [3],
        (items, "item without text"): [5],
        (events, "row without user_id"): [2],
        (events, "negative timestamp"): [2],
        (events, "timestamp not in seconds"): [4],
        (events, "rating out of range"): [2],
        (events, "duplicate interaction"): [3],
        (events, "interaction with an item the catalogue lacks"): [2, 6],
        ("text.npy", "array with the wrong number of rows"): [None],
        ("text.npy", "NaN or Inf in an array"): [2, 3],
        ("text_other.npy", "second array of a modality"): [None],
        ("vision.npy", "array of an unknown type"): [None],
        ("audio.npy", "cannot be read"): [None],
    }
    assert all(each["remedy"] for each in found["findings"])
    assert found["statistics"] == {}


def test_first_rows_are_shown_all_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"item_id": ["a"], "title": ["x"]}).write_parquet(tmp_path / "items.parquet")
    rows = {"user_id": ["u"] * 9, "item_id": ["zz"] * 9, "timestamp": list(range(9))}
    pl.DataFrame(rows).write_csv(tmp_path / "interactions.csv")
    assert dispatch(["data", "validate", str(tmp_path), "--rows", "2"]) == 1
    said = capsys.readouterr().out
    assert "interactions.csv: 9 x interaction with an item the catalogue lacks" in said
    assert "    row 1: item_id zz is not in items.parquet" in said
    assert "... and 7 more" in said
    assert said.splitlines()[-1].startswith("9 faults of 1 kinds")


def test_missing_columns_are_all_named_with_what_may_be_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"item": ["a"], "title": ["x"]}).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame({"user": ["u"], "itemid": ["a"], "when": [1]}).write_csv(tmp_path / "interactions.csv")
    _, found = validated(tmp_path, capsys)
    remedies = {(Path(each["file"]).name, each["reason"]): each["remedy"] for each in found["findings"]}
    assert remedies[("interactions.csv", "no column user_id")] == "rename user?"
    assert remedies[("interactions.csv", "no column item_id")] == "rename itemid?"
    assert remedies[("items.parquet", "no column item_id")] == "rename item?"
    assert remedies[("interactions.csv", "no column timestamp")].startswith("add it")


def test_a_good_folder_is_described_as_the_pipeline_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"item_id": ["a", "b"], "title": ["x", "y"]}).write_parquet(tmp_path / "items.parquet")
    rows = {"user_id": ["u", "u", "u", "v"], "item_id": ["a", "b", "a", "b"], "timestamp": [1, 2, 3, 4]}
    pl.DataFrame(rows).write_csv(tmp_path / "interactions.csv")
    code, found = validated(tmp_path, capsys)
    assert (code, found["ok"], found["kind"]) == (0, True, "tables")
    raw = Tables(root=tmp_path, on_bad_row="error", digest_cache=None).read()
    assert found["statistics"]["interactions"] == raw.interactions.height == 4
    assert found["statistics"]["mean_length"] == 2.0
    notes = " ".join(found["notes"])
    assert "1 of 2 users have fewer than 3 interactions" in notes
    assert "ranking has nothing to learn" in notes


def test_new_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"item_id": ["a", "b", "a"]}).write_parquet(tmp_path / "items.parquet")
    code, found = validated(tmp_path, capsys)
    assert (code, found["kind"]) == (1, "new_items")
    assert rows_of(found) == {("items.parquet", "duplicate item"): [3], (tmp_path.name, "no array"): [None]}
    pl.DataFrame({"item_id": ["a", "b"]}).write_parquet(tmp_path / "items.parquet")
    np.save(tmp_path / "text.npy", np.ones((2, 4), dtype=np.float32))
    assert validated(tmp_path, capsys)[0] == 0


def test_public_files_of_beauty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    review = {"reviewerID": "u", "asin": "a", "unixReviewTime": 1, "overall": 5.0}
    lines = [
        json.dumps(review),
        "no json",
        json.dumps(review | {"overall": 7.0, "unixReviewTime": 2}),
        json.dumps(review),
    ]
    with gzip.open(tmp_path / "reviews_Beauty_5.json.gz", "wt") as stream:
        stream.write("\n".join([*lines, json.dumps(review | {"asin": "b"})]) + "\n")
    with gzip.open(tmp_path / "meta_Beauty.json.gz", "wt") as stream:
        stream.write("{'asin': 'a', 'title': 'x'}\n")
    code, found = validated(tmp_path, capsys)
    assert (code, found["kind"]) == (1, "beauty")
    reviews = "reviews_Beauty_5.json.gz"
    assert rows_of(found) == {
        (reviews, "malformed line"): [2],
        (reviews, "rating out of range"): [3],
        (reviews, "duplicate interaction"): [4],
        (reviews, "interaction with an item the catalogue lacks"): [5],
    }
    (tmp_path / "meta_Beauty.json.gz").unlink()
    assert ("meta_Beauty.json.gz", "missing file") in rows_of(validated(tmp_path, capsys)[1])


def logs(folder: Path) -> None:
    """Two shards of events with a fault each, one of them without a footer."""
    for name in ("events", "items", "embeddings/text"):
        (folder / name).mkdir(parents=True)
    columns = {"event": "click", "label": None}
    good = {"user_id": [1, 1, -2], "item_id": [10, 11, 10], "timestamp": [1_700_000_000] * 3}
    pl.DataFrame(good).with_columns(event=pl.lit(columns["event"]), label=pl.lit(None, dtype=pl.Int8)).write_parquet(
        folder / "events" / "part-0.parquet"
    )
    odd = {"user_id": [1, 2], "item_id": [99, 10], "timestamp": [1_700_000_000, 12]}
    pl.DataFrame(odd).with_columns(event=pl.lit(columns["event"]), label=pl.lit(None, dtype=pl.Int8)).write_parquet(
        folder / "events" / "part-1.parquet"
    )
    (folder / "events" / "part-2.parquet").write_bytes(b"junk")
    pl.DataFrame({"item_id": [10, 11, 11]}).write_parquet(folder / "items" / "part-0.parquet")
    np.save(folder / "embeddings" / "text" / "0.npy", np.array([[1.0], [np.nan], [1.0]], dtype=np.float32))


def test_logs_are_looked_through_shard_by_shard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs(tmp_path)
    code, found = validated(tmp_path, capsys)
    assert (code, found["kind"]) == (1, "logs")
    assert rows_of(found) == {
        ("part-2.parquet", "shard without a readable footer"): [None],
        ("part-0.parquet", "duplicate item"): [3],
        ("part-0.parquet", "user id out of range"): [3],
        ("part-1.parquet", "timestamp out of range"): [2],
        ("part-1.parquet", "event with an item the catalogue lacks"): [1],
        ("0.npy", "NaN or Inf in an array"): [2],
    }
    code, found = validated(tmp_path, capsys, "data.events.until=2001-01-01")
    assert ("part-0.parquet", "timestamp out of range") in rows_of(found)
    assert dispatch(["data", "validate", str(tmp_path), "data.events.utnil=2001"]) == 2
    assert "no such key" in capsys.readouterr().err


def test_a_folder_with_a_misspelt_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "interaction.parquet").touch()
    assert dispatch(["data", "validate", str(tmp_path)]) == 2
    assert "rename interaction.parquet to interactions.parquet?" in capsys.readouterr().err


@pytest.mark.beauty
@pytest.mark.skipif("ADASID_BEAUTY" not in os.environ, reason="needs the real Beauty folder")
def test_real_beauty_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = validated(Path(os.environ["ADASID_BEAUTY"]), capsys)
    assert (code, found["statistics"]["interactions"]) == (0, 198_502)  # as published
