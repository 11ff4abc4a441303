"""The prepared data set: order, numbering, k-core, and what survives the disk."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.raw import RawTables
from adasid_exp.types import UserError


def raw(rows: list[tuple], items: str, *, position: bool = False, **more) -> RawTables:
    columns = ["user_id", "item_id", "timestamp", "liked", *(["position"] if position else [])]
    schema = {"timestamp": pl.Int64, "liked": pl.Boolean}
    table = pl.DataFrame(rows, schema=columns, orient="row", schema_overrides=schema)
    return RawTables(interactions=table, items=pl.DataFrame({"item_id": list(items)}), **more)


def test_rows_are_sorted_by_user_and_time_and_ties_keep_the_order_of_the_file() -> None:
    rows = [
        ("v", "c", 5, None),
        ("u", "b", 9, True),
        ("u", "c", 3, False),
        ("u", "a", 3, True),
        ("v", "a", 1, True),
    ]
    dataset = Dataset.from_raw(raw(rows, "cab"), minimum_interactions=0)
    assert dataset.user_ids.tolist() == ["u", "v"]
    assert dataset.item_ids.tolist() == ["c", "a", "b"]  # the order of the item table
    assert dataset.user.tolist() == [0, 0, 0, 1, 1]
    assert dataset.item.tolist() == [0, 1, 2, 1, 0]
    assert dataset.timestamp.tolist() == [3, 3, 9, 1, 5]
    assert dataset.liked.tolist() == [0, 1, 1, 1, -1]
    assert dataset.offsets.tolist() == [0, 3, 5]
    assert dataset.position.tolist() == [0, 1, 2, 0, 1]
    assert dataset.counts.tolist() == [2, 2, 1]
    names = ("user", "item", "timestamp", "liked", "offsets")
    assert [getattr(dataset, name).dtype.name for name in names] == [
        "int32",
        "int32",
        "int64",
        "int8",
        "int64",
    ]


def test_position_orders_within_a_timestamp_only() -> None:
    rows = [("u", "a", 7, None, 0), ("u", "b", 3, None, 2), ("u", "c", 3, None, 1)]
    dataset = Dataset.from_raw(raw(rows, "abc", position=True), minimum_interactions=0)
    assert dataset.item.tolist() == [2, 1, 0]


def test_the_numbering_does_not_depend_on_the_order_of_rows() -> None:
    """Law: rows with distinct times give the same data set in any order."""
    generator = np.random.default_rng(0)
    rows = [(f"u{generator.integers(9)}", "abcdefg"[generator.integers(7)], time, None) for time in range(80)]
    one = Dataset.from_raw(raw(rows, "abcdefg"), minimum_interactions=0)
    two = Dataset.from_raw(raw([rows[i] for i in generator.permutation(80)], "abcdefg"), minimum_interactions=0)
    for name in ("user", "item", "timestamp", "liked", "user_ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def core_by_hand(rows: list[tuple], least: int) -> set[tuple]:
    """The k-core, one offender at a time."""
    left = set(rows)
    while True:
        for place in (0, 1):
            counts = {row[place]: sum(other[place] == row[place] for other in left) for row in left}
            few = {row for row in left if counts[row[place]] < least}
            if few:
                left -= few
                break
        else:
            return left


def test_k_core_against_a_plain_loop() -> None:
    generator = np.random.default_rng(3)
    rows = [(f"u{generator.integers(30):02d}", "abcdefghijkl"[generator.zipf(1.5) % 12], t, None) for t in range(120)]
    arrays = {"text": np.arange(24.0).reshape(12, 2)}
    dataset = Dataset.from_raw(raw(rows, "abcdefghijkl", arrays=arrays), minimum_interactions=4)
    kept = core_by_hand(rows, 4)
    assert 0 < len(kept) < 120
    users, items = dataset.user_ids[dataset.user].tolist(), dataset.item_ids[dataset.item].tolist()
    assert set(zip(users, items, dataset.timestamp.tolist(), strict=True)) == {row[:3] for row in kept}
    assert dataset.counts.min() >= 4
    assert np.diff(dataset.offsets).min() >= 4
    places = ["abcdefghijkl".index(item) for item in dataset.item_ids]
    np.testing.assert_array_equal(dataset.arrays["text"], arrays["text"][places])
    assert dataset.items["item_id"].to_list() == dataset.item_ids.tolist()
    assert dataset.notes == (f"4-core filter: {120 - len(kept)} interactions dropped",)


def test_nothing_left_is_said_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"data.minimum_interactions=3; lower it"):
        Dataset.from_raw(raw([("u", "a", 1, None)], "a"), minimum_interactions=3)
    with pytest.raises(UserError, match="no interaction that can be used"):
        Dataset.from_raw(raw([], "a"), minimum_interactions=0)


def test_statistics_by_hand() -> None:
    rows = [("u", "a", 1, True), ("u", "b", 2, None), ("v", "a", 1, False), ("v", "b", 3, True)]
    figures = Dataset.from_raw(raw(rows, "abcde"), minimum_interactions=0).statistics()
    assert (figures.users, figures.items, figures.interactions) == (2, 5, 4)
    assert (figures.mean_length, figures.labelled, figures.density) == (2.0, 3 / 4, 4 / 10)
    assert figures.liked == 2 / 3


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    rows = [("u", "é", 1, True), ("v", "b", 2, None), ("v", "é", 3, False)]
    source = raw(
        rows,
        "éb",
        arrays={"text": np.array([[1, 2], [3, 4]], dtype=np.float16)},
        skipped={"duplicate item": 2},
        notes=("text: array text.npy",),
    )
    dataset = Dataset.from_raw(source, minimum_interactions=0)
    dataset.save(tmp_path / "data")
    loaded = Dataset.load(tmp_path / "data")
    for name in ("user", "item", "timestamp", "liked", "user_ids", "item_ids"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(dataset, name))
        assert getattr(loaded, name).dtype == getattr(dataset, name).dtype
    assert loaded.items.equals(dataset.items)
    np.testing.assert_array_equal(loaded.arrays["text"], source.arrays["text"])
    assert loaded.arrays["text"].dtype == np.float16
    assert (loaded.skipped, loaded.notes) == ({"duplicate item": 2}, ("text: array text.npy",))
    histories = loaded.histories()
    assert histories.items.dtype == np.int64
    assert histories.items.tolist() == [0, 1, 0]
    assert histories.offsets.tolist() == [0, 1, 3]


def test_an_interaction_with_a_foreign_item_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="item table lacks"):
        Dataset.from_raw(raw([("u", "z", 1, None)], "a"), minimum_interactions=0)
