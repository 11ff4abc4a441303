"""The public Amazon files: the fast readers against plain ones, and every way in which a file can be bad."""

import ast
import gzip
import html
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adasid_exp.data.amazon import Amazon
from adasid_exp.data.amazon_images import IMAGE_DIM, IMAGE_RECORD, read_images
from adasid_exp.data.amazon_metadata import fields_of, read_meta
from adasid_exp.data.amazon_reviews import read_reviews
from adasid_exp.data.policy import BadRows
from adasid_exp.types import UserError

DAY = 86_400
META_FIELDS = ("asin", "title", "brand", "price", "categories", "description")


def review(user: str, item: str, day: int, stars: float) -> dict:
    text = 'He said: "it\'s {fine}\\n" \u2603, really'
    return {
        "reviewerID": user,
        "asin": item,
        "reviewText": text,
        "overall": stars,
        "unixReviewTime": day * DAY,
        "helpful": [0, 1],
    }


REVIEWS = [
    review("v", "B2", 9, 4.0),
    review("u", "B1", 3, 3.0),
    review("v", "B1", 9, 5.0),
    review("u", "B2", 3, 1.0),
]
META = [
    {"asin": "B2", "title": "Q&amp;A's", "price": 9.99, "categories": [["Beauty", "Hair Care"], ["Other"]]},
    {"asin": "B9", "title": "nobody bought it", "categories": [["Beauty"]]},
    {"asin": "B1", "description": 'a\n"b"', "brand": "", "categories": [["Beauty", "Women's", "Eyes"]]},
]


def lines(path: Path, texts: list[str | bytes], cut: int | None = None) -> Path:
    data = b"".join((text.encode() if isinstance(text, str) else text) + b"\n" for text in texts)
    path.write_bytes(gzip.compress(data, mtime=0)[:cut])
    return path


def write(root: Path, *, reviews: list | None = None, meta: list | None = None, cut: int | None = None) -> Path:
    texts = [text if isinstance(text, str | bytes) else json.dumps(text) for text in reviews or REVIEWS]
    lines(root / "reviews.json.gz", texts, cut)
    texts = [text if isinstance(text, str | bytes) else repr(text) for text in meta or META]
    lines(root / "meta.json.gz", texts)
    return root


def reader(root: Path, policy: str = "error") -> Amazon:
    return Amazon(
        root=root,
        reviews="reviews.json.gz",
        meta="meta.json.gz",
        images="images.b",
        on_bad_row=policy,
        digest_cache=None,
    )


def test_a_small_category_by_hand(tmp_path: Path) -> None:
    raw = reader(write(tmp_path)).read()
    assert raw.interactions.rows() == [
        ("v", "B2", 9 * DAY, True),
        ("u", "B1", 3 * DAY, False),
        ("v", "B1", 9 * DAY, True),
        ("u", "B2", 3 * DAY, False),
    ]
    assert raw.items.to_dicts() == [
        {
            "item_id": "B1",
            "title": None,
            "brand": None,
            "price": None,
            "categories": ["Women's", "Eyes"],
            "description": 'a\n"b"',
        },
        {
            "item_id": "B2",
            "title": "Q&A's",
            "brand": None,
            "price": 9.99,
            "categories": ["Hair Care"],
            "description": None,
        },
    ]
    assert (dict(raw.arrays), raw.skipped) == ({}, {})
    assert raw.notes[0] == "no image features (images.b is not there)"


# --- metadata: the pattern against ast.literal_eval ---


def by_literal(line: str) -> dict:
    """The reference: what every peer does, minus the unsafe ones."""
    record = ast.literal_eval(line)
    return {name: record[name] for name in META_FIELDS if name in record}


NASTY = [
    "{'asin': 'B', 'title': \"it's\", 'description': 'say \"x\"'}",
    r"""{'asin': 'B', 'title': 'it\'s "so" \\', 'description': 'a\\\'b\\n\n\tc\x41\u2603\xe9'}""",
    r"{'asin': 'B', 'title': 'ends in a backslash \\', 'brand': '\\\\'}",
    r"{'asin': 'B', 'title': 'form\x0cfeed \U0001f600 \101 \N{BULLET}'}",
    r"{'asin': 'B', 'title': 'both \\x41 and \x41 and \0'}",
    "{'description': \"', 'title': 'not a title', 'x': '\", 'asin': 'B', 'title': 'the title'}",
    "{'description': '}, {', 'asin': 'B', 'categories': [['a}', \"b's], [\"], ['c']], 'price': 3}",
    "{'asin': 'B', 'price': None, 'brand': None, 'title': None, 'categories': None}",
    "{'asin': 'B', 'price': 1e-05, 'salesRank': {}, 'related': {'also_bought': []}, 'categories': []}",
    "{'asin': 'B', 'price': 12, 'salesRank': {'Health & \"Beauty\"': 1}}",
    "{'asin': 'B', 'related': {'also_viewed': ['B}', 'x, y', \"z's\"], 'b': ['c']}, 'title': 't'}",
    "{'asin': 'B', 'title': 'one', 'title': 'two'}",
    "{ 'asin' : 'B','title':'no spaces',}",
    "{'asin': 'B', 'title': 'implicit ' 'joining', 'brand': u'unicode', 'price': -0.0}",
    "{'asin': 'B', 'title': b'bytes', 'flag': True, 'deep': {'a': {'b': [1, {'c': 'd'}]}}}",
    "{'asin': 'B', 'description': ['a', 'b'], 'title': '''triple'''}",
    "{'asin': 'B', 'title': 'raw é ☃ \u2028 \x85 \x1c separators'}",
    "{'asin': 'B', 'title': '', 'categories': [['Beauty', 'A', \"W's\"], []], 'price': 0.1}",
    "{}",
]


@pytest.mark.parametrize("line", NASTY)
def test_fields_equal_the_literal(line: str) -> None:
    assert fields_of(line) == by_literal(line)


@pytest.mark.parametrize(
    "line",
    [
        "{'asin': 'B', 'title': 'no end",
        "{'asin': 'B', 'title': 'no brace'",
        "{'asin': 'B'} trailing",
        "{'asin': 'B', 'price': 007}",
        "{'asin': 'B', 'price': nan}",
        "{'asin': 'B', 'price': 3-4}",
        "{'asin': 'B', 'title': 'a' + 'b'}",
        "{'asin': __import__('os').getpid()}",
        r"{'asin': 'B', 'title': '\x4'}",
        "['asin', 'B']",
        "{'asin', 'B'}",
        "nonsense",
        "{'asin': 'B', 'title': 'nul \x00'}",
        "{'asin': 'B', 'title': 'carriage \r return'}",
        "{'asin': 'B', {'title': 't'}: 1}",
    ],
)
def test_what_is_no_literal_of_a_dict_is_refused(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what it says is the interpreter's
        fields_of(line)


PATIENT = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
SCALARS = st.text(max_size=20) | st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
RECORDS = st.dictionaries(
    st.sampled_from([*META_FIELDS, "imUrl", "related", "salesRank", "a b"]),
    SCALARS
    | st.lists(st.lists(st.text(max_size=8), max_size=3), max_size=3)
    | st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=3) | st.integers(), max_size=3),
)


@PATIENT
@given(RECORDS)
def test_fields_equal_the_literal_of_any_repr(record: dict) -> None:
    assert fields_of(repr(record)) == {name: record[name] for name in META_FIELDS if name in record}


@PATIENT
@given(RECORDS, st.integers(0, 200), st.sampled_from(["'", '"', "\\", "}", "]", ", ", "{", "", "': '"]))
def test_damage_never_yields_fields_that_the_literal_would_not(record: dict, place: int, piece: str) -> None:
    line = repr(record)
    line = line[: place % len(line)] + piece + line[place % len(line) + 1 :]
    try:
        wanted = by_literal(line)
    except (ValueError, SyntaxError, TypeError, AttributeError, KeyError):
        return
    assert fields_of(line) == wanted


def test_the_table_equals_the_literal_table(tmp_path: Path) -> None:
    """The whole path from the file, against a loop with the same rules written out by hand."""
    generator = np.random.default_rng(0)
    words = np.array(["it's", '"so"', "\\", "é", "&lt;b&gt;", "serum", "{", "}, '", "\n", "☃"])
    records = []
    for row in range(300):
        record = {
            "asin": f"B{row:03d}",
            "title": " ".join(generator.choice(words, 4)),
            "description": " ".join(generator.choice(words, 9)),
            "price": round(float(generator.uniform(0, 50)), 2),
            "related": {"also_bought": [f"B{n}" for n in generator.integers(0, 99, 5)]},
            "categories": [["Beauty", *generator.choice(["Women's", "Eyes"], 2).tolist()], ["X", "Y"]],
            "brand": str(generator.choice(words)),
        }
        records.append({name: value for name, value in record.items() if name == "asin" or generator.random() < 0.8})
    lines(tmp_path / "meta.json.gz", [repr(record) for record in records])
    expected = [
        {
            "row": row,
            "item_id": record["asin"],
            "title": html.unescape(record["title"]) if "title" in record else None,
            "brand": html.unescape(record["brand"]) if "brand" in record else None,
            "price": record.get("price"),
            "categories": record["categories"][0][1:] if "categories" in record else None,
            "description": html.unescape(record["description"]) if "description" in record else None,
        }
        for row, record in enumerate(records, start=1)
    ]
    assert read_meta(tmp_path / "meta.json.gz", wanted=None, bad=BadRows("error")).to_dicts() == expected


BAD_META = {
    "broken": ("{'asin': 'B3', 'title': ", "malformed line"),
    "not_utf8": (b"{'asin': 'B3', 'title': '\xff'}", "malformed line"),
    "json": (json.dumps({"asin": "B3", "title": None}), "malformed line"),
    "price": ("{'asin': 'B1', 'title': 't', 'price': '$3'}", "malformed line"),
    "title": ("{'asin': 'B1', 'title': {'x': 1}}", "malformed line"),
    "categories": ("{'asin': 'B1', 'title': 't', 'categories': 'Beauty'}", "malformed line"),
    "no_id": ("{'title': 't'}", "row without item_id"),
    "duplicate": (repr(META[0]), "duplicate item"),
}


@pytest.mark.parametrize("case", BAD_META)
def test_bad_metadata_is_named_or_left_out_and_counted(tmp_path: Path, case: str) -> None:
    text, reason = BAD_META[case]
    write(tmp_path, meta=[META[0], META[1], text, META[2]])
    with pytest.raises(UserError, match=r"meta.json.gz, row 3: .*data.on_bad_row=skip") as error:
        reader(tmp_path).read()
    assert "\n" not in str(error.value)
    raw = reader(tmp_path, "skip").read()
    assert raw.skipped == {reason: 1}
    assert raw.items["item_id"].to_list() == ["B1", "B2"]


def test_an_item_without_text_and_one_the_metadata_lack(tmp_path: Path) -> None:
    write(tmp_path, meta=[META[0], {"asin": "B1", "price": 3.0, "categories": [["Beauty"]]}])
    with pytest.raises(UserError, match=r"meta.json.gz, row 2: item_id B1 has no text"):
        reader(tmp_path).read()
    raw = reader(tmp_path, "skip").read()
    assert raw.skipped == {"item without text": 1, "interaction with an item the catalogue lacks": 2}
    assert raw.interactions["item_id"].to_list() == ["B2", "B2"]
    write(tmp_path, meta=META[:2])
    with pytest.raises(UserError, match=r"reviews.json.gz, row 2: item_id B1 is not in meta.json.gz \(and 1 more"):
        reader(tmp_path).read()


# --- reviews ---


def test_reviews_equal_a_json_line_loop(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    records = [
        review(
            f"A{generator.integers(50)}",
            f"B{i}",
            int(generator.integers(9000)),
            float(generator.integers(1, 6)),
        )
        for i in range(500)
    ]
    path = lines(tmp_path / "r.json.gz", [json.dumps(record) for record in records])
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        loop = [
            (row, r["reviewerID"], r["asin"], r["unixReviewTime"], r["overall"])
            for row, r in enumerate(map(json.loads, stream), start=1)
        ]
    assert read_reviews(path, bad=BadRows("error")).rows() == loop


BAD_REVIEWS = {
    "broken": ('{"reviewerID": "A', "malformed line"),
    "not_json": ("{'reviewerID': 'A'}", "malformed line"),
    "list": ('["reviewerID"]', "malformed line"),
    "two_on_a_line": (json.dumps(REVIEWS[0]) + json.dumps(REVIEWS[1]), "malformed line"),
    "not_utf8": (b'{"reviewerID": "\xff"}', "malformed line"),
    "rating": (review("w", "B1", 3, 7.0), "rating out of range"),
    "rating_text": (json.dumps({**REVIEWS[0], "overall": "five"}), "malformed line"),
    "negative": (review("w", "B1", -3, 5.0), "negative timestamp"),
    "milliseconds": (review("w", "B1", 16_000_000, 5.0), "timestamp not in seconds"),
    "fraction": (json.dumps({**REVIEWS[0], "unixReviewTime": 1.5}), "malformed line"),
    "no_user": (json.dumps({"asin": "B1", "unixReviewTime": 3, "overall": 2.0}), "row without user_id"),
    "no_time": (json.dumps({"asin": "B1", "reviewerID": "w", "overall": 2.0}), "row without timestamp"),
    "duplicate": (REVIEWS[1], "duplicate interaction"),
}


@pytest.mark.parametrize("case", BAD_REVIEWS)
def test_a_bad_review_is_named_or_left_out_and_counted(tmp_path: Path, case: str) -> None:
    record, reason = BAD_REVIEWS[case]
    # A blank line is no fault, but it counts: the row is the one an editor shows.
    write(tmp_path, reviews=[REVIEWS[0], REVIEWS[1], "", record, *REVIEWS[2:]])
    with pytest.raises(UserError, match=r"reviews.json.gz, row 4: .*data.on_bad_row=skip") as error:
        reader(tmp_path).read()
    assert "\n" not in str(error.value)
    raw = reader(tmp_path, "skip").read()
    assert raw.skipped == {reason: 1}
    assert raw.interactions.equals(reader(write(tmp_path)).read().interactions)


@pytest.mark.parametrize("cut", [3000, 9000, -9, -5, -1])
def test_a_truncated_gzip(tmp_path: Path, cut: int) -> None:
    many = [review(f"u{i}", "B1" if i % 2 else "B2", i, 5.0) for i in range(2000)]
    write(tmp_path, reviews=many, cut=cut)
    with pytest.raises(UserError, match=r"reviews.json.gz, row \d+: the gzip stream ends") as error:
        reader(tmp_path).read()
    assert "download the file again" in str(error.value)
    raw = reader(tmp_path, "skip").read()
    assert raw.skipped == {"damaged gzip, read up to the damage": 1}
    kept = raw.interactions.height
    assert 0 < kept <= 2000
    assert raw.interactions["user_id"].to_list() == [f"u{i}" for i in range(kept)]
    assert f"row {kept + 1}:" in str(error.value)


def test_a_gzip_damaged_in_the_middle_and_one_of_two_members(tmp_path: Path) -> None:
    many = [review(f"u{i}", "B1" if i % 2 else "B2", i, 5.0) for i in range(2000)]
    path = write(tmp_path, reviews=many) / "reviews.json.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-6] + b"xx" + whole[-4:])  # the checksum
    with pytest.raises(UserError, match=r"reviews.json.gz, row \d+: the gzip stream ends or breaks here"):
        reader(tmp_path).read()
    half = "".join(json.dumps(record) + "\n" for record in many[:1000]).encode()
    rest = "".join(json.dumps(record) + "\n" for record in many[1000:]).encode()
    path.write_bytes(gzip.compress(half) + gzip.compress(rest))
    bad = json.dumps(review("w", "B1", 1, 7.0)) + "\n"
    path.write_bytes(gzip.compress(half) + gzip.compress(rest) + gzip.compress(bad.encode()))
    with pytest.raises(UserError, match=r"reviews.json.gz, row 2001: rating 7.0"):
        reader(tmp_path).read()


def test_empty_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reviews.json.gz is missing; .*meta.json.gz.*images.b"):
        reader(tmp_path).fingerprint()
    write(tmp_path)
    (tmp_path / "reviews.json.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"reviews.json.gz is empty"):
        reader(tmp_path).read()
    write(tmp_path)
    lines(tmp_path / "meta.json.gz", [])
    with pytest.raises(UserError, match=r"meta.json.gz is empty"):
        reader(tmp_path).read()
    (tmp_path / "meta.json.gz").write_bytes(b"<html>not found</html>\n" * 20)
    with pytest.raises(UserError, match=r"meta.json.gz, row 1: the gzip stream ends or breaks here"):
        reader(tmp_path).read()


# --- image features ---


def images(path: Path, ids: list[str], *, tail: bytes = b"") -> np.ndarray:
    records = np.zeros(len(ids), dtype=IMAGE_RECORD)
    records["asin"] = [name.encode() for name in ids]
    records["vector"] = np.random.default_rng(2).standard_normal((len(ids), IMAGE_DIM), dtype=np.float32)
    path.write_bytes(records.tobytes() + tail)
    return records["vector"]


def by_struct(path: Path) -> dict[str, np.ndarray]:
    """The reference: the reading loop published with the data."""
    found = {}
    with path.open("rb") as stream:
        while name := stream.read(10):
            found[name.rstrip(b"\0").decode()] = np.frombuffer(stream.read(4 * 4096), dtype="<f4")
    return found


def test_images_equal_the_published_loop_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adasid_exp.data.amazon_images.IMAGE_BLOCK", 3 * IMAGE_RECORD.itemsize)
    ids = [f"B{n:09d}" for n in np.random.default_rng(0).permutation(20)]
    images(tmp_path / "i.b", ids)
    reference = by_struct(tmp_path / "i.b")
    wanted = sorted(ids)[3:11]
    vectors, known = read_images(tmp_path / "i.b", item_ids=wanted, bad=BadRows("error"))
    assert known.all()
    np.testing.assert_array_equal(vectors, [reference[name] for name in wanted])


def test_an_item_without_an_image_takes_the_mean_and_is_counted(tmp_path: Path) -> None:
    vectors = images(write(tmp_path) / "images.b", ["B2", "B7"])
    raw = reader(tmp_path).read()
    np.testing.assert_array_equal(raw.arrays["vision"], [vectors[0], vectors[0]])  # one known row is its own mean
    assert "1 items without a record given the mean of the others" in raw.notes[0]
    assert raw.skipped == {}
    assert "images.b" in reader(tmp_path).fingerprint()["files"]


def test_bad_image_records(tmp_path: Path) -> None:
    path = tmp_path / "i.b"
    vectors = images(path, ["B1", "B2", "B1"], tail=b"B3")
    for row, said in ((4, "the last record has 2 of 16394 bytes"),):
        with pytest.raises(UserError, match=rf"i.b, row {row}: {said}"):
            read_images(path, item_ids=["B1", "B2"], bad=BadRows("error"))
    bad = BadRows("skip")
    kept, _ = read_images(path, item_ids=["B1", "B2"], bad=bad)
    np.testing.assert_array_equal(kept, vectors[:2])
    assert bad.skipped == {"incomplete image record": 1, "second image record of an item": 1}


def test_an_image_that_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "i.b"
    images(path, ["B1", "B2", "B3"])
    records = np.fromfile(path, dtype=IMAGE_RECORD)
    records["vector"][1, 5] = np.nan
    records.tofile(path)
    with pytest.raises(UserError, match=r"i.b, row 2: the embedding holds NaN or Inf"):
        read_images(path, item_ids=["B1", "B2"], bad=BadRows("error"))
    bad = BadRows("skip")
    kept, known = read_images(path, item_ids=["B1", "B2"], bad=bad)
    assert (bad.skipped, known.tolist()) == ({"NaN or Inf in an array": 1}, [True, False])
    np.testing.assert_array_equal(kept[1], kept[0])


def test_the_same_record_twice_is_no_fault(tmp_path: Path) -> None:
    images(tmp_path / "i.b", ["B1"])
    (tmp_path / "i.b").write_bytes((tmp_path / "i.b").read_bytes() * 2)
    bad = BadRows("error")
    _, known = read_images(tmp_path / "i.b", item_ids=["B1"], bad=bad)
    assert known.tolist() == [True]


def test_the_order_of_a_day_is_the_order_of_the_file(tmp_path: Path) -> None:
    raw = reader(write(tmp_path)).read()
    assert "position" not in raw.interactions.columns  # so that the data set keeps the order of rows
    assert raw.interactions.filter(pl.col("user_id") == "v")["item_id"].to_list() == ["B2", "B1"]
