"""Beauty: which reader fits the folder, the asserted counts, and the real data where they are at hand."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.beauty import META, REVIEWS, Beauty
from adasid_exp.types import UserError

COUNTS = {"users": 2, "items": 2, "interactions": 4}
PUBLISHED = {"users": 22_363, "items": 12_101, "interactions": 198_502}
ROWS = [("u", "A", 1, 5.0), ("u", "B", 2, 1.0), ("v", "B", 1, 4.0), ("v", "A", 1, 3.0)]
COLUMNS = ["user_id", "item_id", "timestamp", "rating"]


def public(root: Path, rows: list[tuple] = ROWS) -> Path:
    names = ("reviewerID", "asin", "unixReviewTime", "overall")
    texts = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    (root / REVIEWS).write_bytes(gzip.compress("\n".join(texts).encode()))
    meta = [repr({"asin": item, "title": item, "categories": [["Beauty", "X"]]}) for item in "BCA"]
    (root / META).write_bytes(gzip.compress("\n".join(meta).encode()))
    return root


def tables(root: Path, rows: list[tuple] = ROWS, items: str = "AB") -> Path:
    pl.DataFrame(rows, schema=COLUMNS, orient="row").write_parquet(root / "interactions.parquet")
    pl.DataFrame({"item_id": list(items), "title": list(items)}).write_parquet(root / "items.parquet")
    return root


def beauty(root: Path, expected: dict[str, int] = COUNTS, policy: str = "error") -> Beauty:
    return Beauty(root=root, on_bad_row=policy, digest_cache=None, expected=expected)


def test_both_kinds_of_folder_give_the_same_data(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = beauty(public(tmp_path / "a")), beauty(tables(tmp_path / "b"))
    assert one.read().interactions.equals(two.read().interactions)
    assert one.read().items["item_id"].to_list() == two.read().items["item_id"].to_list() == ["A", "B"]
    assert one.fingerprint()["reader"] == "amazon"
    assert two.fingerprint() == {**two.tables.fingerprint(), "expected": COUNTS}


def test_a_folder_without_the_data_is_told_in_one_line_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        beauty(tmp_path / "nowhere").fingerprint()
    for word in (
        "nowhere",
        REVIEWS,
        META,
        "image_features_Beauty.b",
        "make data-beauty",
        "interactions.parquet",
    ):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_half_a_folder_and_two_in_one(tmp_path: Path) -> None:
    (public(tmp_path) / META).unlink()
    with pytest.raises(UserError, match=f"{META} is missing"):
        beauty(tmp_path).read()
    with pytest.raises(UserError, match="holds both"):
        beauty(tables(tmp_path)).read()


@pytest.mark.parametrize("make", [public, tables])
def test_a_count_that_differs_names_the_file_and_the_difference(tmp_path: Path, make) -> None:
    make(tmp_path, rows=ROWS[:3])
    source = {public: REVIEWS, tables: "interactions.parquet"}[make]
    with pytest.raises(UserError, match=rf"{source} gives 3 interactions, not 4 \(-1\); fetch") as error:
        beauty(tmp_path).read()
    assert "users" not in str(error.value)


def test_an_item_too_many_is_the_item_table_s(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"items.parquet gives 3 items, not 2 \(\+1\)"):
        beauty(tables(tmp_path, items="ABC")).read()


def test_rows_that_were_skipped_explain_a_count_and_stay_visible(tmp_path: Path) -> None:
    raw = beauty(tables(tmp_path, rows=[*ROWS[:3], ("v", "A", 1, 9.0)]), policy="skip").read()
    assert raw.skipped == {"rating out of range": 1}
    assert raw.notes[-1] == "interactions.parquet gives 3 interactions, not 4 (-1)"


@pytest.fixture(scope="module")
def real() -> Path:
    folder = os.environ.get("ADASID_BEAUTY")
    if not folder:
        pytest.skip("ADASID_BEAUTY names no folder")
    return Path(folder)


@pytest.mark.beauty
def test_the_real_data_have_the_published_counts(real: Path) -> None:
    raw = beauty(real, PUBLISHED).read()
    dataset = Dataset.from_raw(raw, minimum_interactions=0)
    figures = dataset.statistics()
    assert {"users": figures.users, "items": figures.items, "interactions": figures.interactions} == PUBLISHED
    assert dataset.counts.min() >= 5
    assert np.diff(dataset.offsets).min() >= 5
    assert raw.skipped == {}


@pytest.mark.beauty
def test_the_real_order_is_the_one_the_field_uses(real: Path) -> None:
    """Reference: the data's own ``position`` column (S3-Rec, P5, TIGER) where the open schema is at hand."""
    file = real / "interactions.parquet"
    if not file.is_file():
        pytest.skip("the public files carry no position")
    published = pl.read_parquet(file).sort("user_id", "position")
    dataset = Dataset.from_raw(beauty(real, PUBLISHED).read(), minimum_interactions=0)
    assert dataset.item_ids[dataset.item].tolist() == published["item_id"].to_list()
    assert dataset.user_ids[dataset.user].tolist() == published["user_id"].to_list()
