"""The open schema: types it takes, faults it names, and the example of its written contract."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.raw import RawTables
from adasid_exp.data.tables import Tables
from adasid_exp.types import UserError

DAY = 86_400
ITEMS = {"item_id": ["b", "a", "c"], "title": ["Bee", None, "Sea"], "brand": [None, "Ay", ""]}
ROWS = {
    "user_id": ["u", "u", "v", "v"],
    "item_id": ["a", "b", "c", "a"],
    "timestamp": [2 * DAY, DAY, 3 * DAY, 3 * DAY],
    "rating": [5.0, 3.0, None, 1.0],
}
VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)


def write(root: Path, *, rows=ROWS, items=ITEMS, vectors=VECTORS) -> Path:
    pl.DataFrame(rows, strict=False).write_parquet(root / "interactions.parquet")
    pl.DataFrame(items, strict=False).write_parquet(root / "items.parquet")
    if vectors is not None:
        np.save(root / "text_tiny.npy", vectors)
    return root


def read(root: Path, policy: str = "error") -> RawTables:
    return Tables(root=root, on_bad_row=policy, digest_cache=None).read()


def line(error) -> str:
    """The message, which must be one line."""
    message = str(error.value)
    assert "\n" not in message
    return message


def changed(table: dict, column: str, row: int, value) -> dict:
    values = list(table[column])
    values[row] = value
    return {**table, column: values}


def test_a_clean_folder_is_read_as_it_is(tmp_path: Path) -> None:
    raw = read(write(tmp_path))
    assert raw.interactions.to_dict(as_series=False) == {
        "user_id": ROWS["user_id"],
        "item_id": ROWS["item_id"],
        "timestamp": ROWS["timestamp"],
        "liked": [True, False, None, False],  # by hand: more than 3 is a like
    }
    assert raw.items["item_id"].to_list() == ["b", "a", "c"]
    np.testing.assert_array_equal(raw.arrays["text"], VECTORS)
    assert raw.skipped == {}
    assert raw.notes[0] == "text: array text_tiny.npy, encoder tiny, dim 2"


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([172_800, 86_400, 259_200, 259_200], dtype=pl.Int32),
        pl.Series([172_800, 86_400, 259_200, 259_200], dtype=pl.UInt64),
        pl.Series([date(1970, 1, day) for day in (3, 2, 4, 4)]),
        pl.Series([datetime(1970, 1, day) for day in (3, 2, 4, 4)], dtype=pl.Datetime("ms")),
        pl.Series([datetime(1970, 1, day, tzinfo=UTC) for day in (3, 2, 4, 4)]).dt.convert_time_zone("Asia/Tokyo"),
    ],
    ids=["int32", "uint64", "date", "datetime", "zone"],
)
def test_times_of_any_clear_type_become_unix_seconds(tmp_path: Path, times: pl.Series) -> None:
    raw = read(write(tmp_path, rows={**ROWS, "timestamp": times}))
    assert raw.interactions["timestamp"].to_list() == ROWS["timestamp"]


def test_integer_ids_and_categorical_text_are_taken(tmp_path: Path) -> None:
    items = {
        "item_id": pl.Series([7, 8], dtype=pl.UInt16),
        "title": pl.Series(["x", "y"], dtype=pl.Categorical),
    }
    rows = {"user_id": [1, 2], "item_id": [8, 7], "timestamp": [1, 2]}
    raw = read(write(tmp_path, rows=rows, items=items, vectors=None))
    assert raw.items.rows() == [("7", "x"), ("8", "y")]
    assert raw.interactions.rows() == [("1", "8", 1, None), ("2", "7", 2, None)]


def test_columns_it_does_not_know_are_kept(tmp_path: Path) -> None:
    raw = read(write(tmp_path, items={**ITEMS, "color": [{"rgb": 1}, {"rgb": 2}, {"rgb": 3}]}))
    assert raw.items["color"].struct.field("rgb").to_list() == [1, 2, 3]


def test_text_tables_equal_parquet(tmp_path: Path) -> None:
    """Law: the same table in two formats gives the same data; ids of digits keep their leading zeros."""
    items = pl.DataFrame(
        {"item_id": ["007", "8"], "title": ["x, y", "z"], "price": [1.5, None], "categories": ["A > B", None]}
    )
    rows = pl.DataFrame({"user_id": ["01", "1"], "item_id": ["007", "8"], "timestamp": [5, 6], "liked": [True, None]})
    for folder in ("csv", "tsv", "parquet"):
        (tmp_path / folder).mkdir()
    items.write_csv(tmp_path / "csv/items.csv")
    rows.write_csv(tmp_path / "csv/interactions.csv")
    items.write_csv(tmp_path / "tsv/items.tsv", separator="\t")
    rows.write_csv(tmp_path / "tsv/interactions.tsv", separator="\t")
    listed = items.with_columns(categories=pl.Series([["A", "B"], None]))
    listed.write_parquet(tmp_path / "parquet/items.parquet")
    rows.write_parquet(tmp_path / "parquet/interactions.parquet")
    csv, tsv, parquet = (read(tmp_path / folder) for folder in ("csv", "tsv", "parquet"))
    for other in (csv, tsv):
        assert other.items.equals(parquet.items)
        assert other.interactions.equals(parquet.interactions)


BAD_ROWS = {
    "rating": (changed(ROWS, "rating", 1, 7.0), "rating 7.0 is not between 1 and 5", "rating out of range"),
    "rating_of_zero": (changed(ROWS, "rating", 1, 0.0), "rating 0.0", "rating out of range"),
    "negative": (changed(ROWS, "timestamp", 1, -5), "timestamp -5 is negative", "negative timestamp"),
    "milliseconds": (
        changed(ROWS, "timestamp", 1, 1_400_000_000_000),
        "divide the column by 1000",
        "timestamp not in seconds",
    ),
    "no_time": (changed(ROWS, "timestamp", 1, None), "timestamp is missing", "row without timestamp"),
    "no_user": (changed(ROWS, "user_id", 1, " "), "user_id is missing", "row without user_id"),
    "no_item": (changed(ROWS, "item_id", 1, None), "item_id is missing", "row without item_id"),
    "unknown_item": (
        changed(ROWS, "item_id", 1, "z"),
        "item_id z is not in items.parquet",
        "interaction with an item the catalogue lacks",
    ),
    "duplicate": (
        {name: [values[0], values[0], *values[2:]] for name, values in ROWS.items()},
        "user_id u, item_id a, timestamp 172800 occurs a second time",
        "duplicate interaction",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_interaction_is_named_or_left_out_and_counted(tmp_path: Path, case: str) -> None:
    rows, said, reason = BAD_ROWS[case]
    write(tmp_path, rows=rows)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert f"{tmp_path / 'interactions.parquet'}, row 2: " in line(error)
    assert said in line(error)
    assert "data.on_bad_row=skip" in line(error)
    raw = read(tmp_path, "skip")
    assert raw.skipped == {reason: 1}
    assert raw.interactions.height == 3
    assert raw.notes[-1] == f"left out by data.on_bad_row=skip: 1 x {reason}"


BAD_ITEMS = {
    "duplicate": (changed(ITEMS, "item_id", 2, "b"), "item_id b occurs a second time", "duplicate item", 3),
    "no_text": (changed(ITEMS, "title", 2, "  "), "item_id c has no text", "item without text", 3),
    "no_id": (changed(ITEMS, "item_id", 0, None), "item_id is missing", "row without item_id", 1),
}


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_a_bad_item_goes_with_its_array_row_and_its_interactions(tmp_path: Path, case: str) -> None:
    items, said, reason, row = BAD_ITEMS[case]
    write(tmp_path, items=items)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert f"items.parquet, row {row}: {said}" in line(error)
    raw = read(tmp_path, "skip")
    kept = [i for i in range(3) if i != row - 1]
    np.testing.assert_array_equal(raw.arrays["text"], VECTORS[kept])
    assert raw.items["item_id"].to_list() == [items["item_id"][i] for i in kept]
    assert set(raw.interactions["item_id"]) <= set(raw.items["item_id"])
    assert raw.skipped == {reason: 1, "interaction with an item the catalogue lacks": 1}


def test_categories_alone_are_text_and_empty_ones_are_not(tmp_path: Path) -> None:
    items = {"item_id": ["a", "b", "c"], "title": [None] * 3, "categories": [["x"], ["y"], ["", None]]}
    with pytest.raises(UserError, match="row 3: item_id c has no text"):
        read(write(tmp_path, items=items))


def test_a_catalogue_without_columns_of_text_is_fine(tmp_path: Path) -> None:
    raw = read(write(tmp_path, items={"item_id": ["a", "b", "c"], "price": [1, None, 2]}))
    assert raw.items["price"].to_list() == [1.0, None, 2.0]


def damaged(value: float) -> np.ndarray:
    vectors = VECTORS.copy()
    vectors[1, 0] = value
    return vectors


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN"), (np.inf, "Inf"), (-np.inf, "Inf")])
def test_an_embedding_that_is_not_finite(tmp_path: Path, value: float, said: str) -> None:
    write(tmp_path, vectors=damaged(value))
    with pytest.raises(UserError, match=rf"text_tiny.npy, row 2: the embedding holds {said}"):
        read(tmp_path)
    raw = read(tmp_path, "skip")
    np.testing.assert_array_equal(raw.arrays["text"], [[0, 1], [2, 3], [4, 5]])  # by hand: the mean of rows 1 and 3
    assert raw.skipped == {"NaN or Inf in an array": 1}


@pytest.mark.parametrize(
    ("vectors", "said", "reason"),
    [
        (VECTORS[:2], "the array has 2 rows, the item table 3", "array with the wrong number of rows"),
        (VECTORS.astype(np.int64), "type int64", "array of an unknown type"),
        (VECTORS[0], r"shape \(2,\)", "array of an unknown type"),
    ],
)
def test_an_array_that_does_not_fit(tmp_path: Path, vectors: np.ndarray, said: str, reason: str) -> None:
    write(tmp_path, vectors=vectors)
    with pytest.raises(UserError, match=rf"text_tiny.npy: .*{said}"):
        read(tmp_path)
    raw = read(tmp_path, "skip")
    assert dict(raw.arrays) == {}
    assert raw.skipped == {reason: 1}


def test_two_arrays_of_a_modality_and_a_file_that_is_no_array(tmp_path: Path) -> None:
    write(tmp_path)
    np.save(tmp_path / "text_other.npy", VECTORS)
    with pytest.raises(UserError, match="two arrays of modality text"):
        read(tmp_path)
    (tmp_path / "text_other.npy").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"text_other.npy is not a readable .npy array"):
        read(tmp_path)


def test_a_required_column_of_an_unknown_type_stops_under_either_policy(tmp_path: Path) -> None:
    write(tmp_path, rows={**ROWS, "timestamp": [1.5, 2.5, 3.5, 4.5]})
    for policy in ("error", "skip"):
        with pytest.raises(UserError, match=r"interactions.parquet, column timestamp: type Float64 cannot be read"):
            read(tmp_path, policy)


def test_an_optional_column_of_an_unknown_type(tmp_path: Path) -> None:
    write(tmp_path, items={**ITEMS, "price": ["cheap", "dear", "1"]})
    with pytest.raises(
        UserError, match=r"items.parquet: column price: type String cannot be read; store it as a number"
    ):
        read(tmp_path)
    raw = read(tmp_path, "skip")
    assert "price" not in raw.items.columns
    assert raw.skipped == {"column price of an unknown type": 1}


def test_missing_empty_and_ambiguous_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no interactions.parquet .*set data.root"):
        read(tmp_path)
    write(tmp_path)
    pl.DataFrame(ROWS).clear().write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(UserError, match="interactions.parquet is empty"):
        read(tmp_path)
    (tmp_path / "interactions.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="interactions.parquet is empty"):
        read(tmp_path)
    (tmp_path / "interactions.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="is not a readable parquet table"):
        read(tmp_path)
    pl.DataFrame(ROWS).drop("timestamp").write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(UserError, match="has no column timestamp"):
        read(tmp_path)
    (tmp_path / "items.csv").write_text("item_id\na\n")
    with pytest.raises(UserError, match="holds items.parquet and items.csv"):
        read(tmp_path)


def test_an_unknown_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data.on_bad_row is 'ignore'; choose error or skip"):
        Tables(root=tmp_path, on_bad_row="ignore", digest_cache=None)


def test_the_fingerprint_follows_the_bytes_not_the_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder)

    def fingerprint(folder: str) -> dict:
        return Tables(root=tmp_path / folder, on_bad_row="error", digest_cache=tmp_path / "d/cache.json").fingerprint()

    before = fingerprint("one")
    assert before == fingerprint("two")
    assert set(before["files"]) == {"interactions.parquet", "items.parquet", "text_tiny.npy"}
    write(tmp_path / "two", vectors=VECTORS + 1)
    after = fingerprint("two")
    assert [name for name in before["files"] if before["files"][name] != after["files"][name]] == ["text_tiny.npy"]


def test_the_documented_example_runs_and_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Path(__file__).parents[2] / "docs" / "data.md"
    snippet, *_ = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, str(document), "exec"), {})  # noqa: S102 - the document's own example
    raw = read(Path("data/teas"))
    dataset = Dataset.from_raw(raw, minimum_interactions=0)
    names = dataset.item_ids[dataset.item].tolist()
    assert names == [
        "sencha",
        "oolong",
        "assam",
        "sencha",
        "assam",
        "oolong",
    ]  # by hand; ben's first day by position
    assert dataset.liked.tolist() == [1, 1, 0, 0, -1, 1]
    assert raw.arrays["vision"].shape == (3, 8)
    assert raw.notes[0] == "vision: array vision_my_encoder.npy, encoder my_encoder, dim 8"
