"""Raw Amazon files against the loops that peers read them with."""

import gzip
import html
import json

import numpy as np
import pytest
from references import json_line_loop, literal_eval_loop

from adasid_exp.data.amazon_metadata import read_meta
from adasid_exp.data.amazon_reviews import read_reviews
from adasid_exp.data.policy import BadRows
from conftest import AtLeast

REVIEWS, ITEMS = 200_000, 6_000
WORDS = np.array("the of soap cream hair skin it's great love works \"really\" nice day don't & a I".split())  # noqa: SIM905


def sentence(random, words):
    return " ".join(random.choice(WORDS, words))


def asin(number):
    return f"B{number:09d}"


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Lines in the form of ``reviews_Beauty_5.json.gz``, about 500 characters each."""
    random = np.random.default_rng(0)
    texts = [sentence(random, count) for count in random.integers(20, 120, 500)]
    draws = random.integers(0, (22_363, 12_101, 9, 5, 1_000), (REVIEWS, 5)).tolist()
    path = tmp_path_factory.mktemp("raw") / "reviews.json.gz"
    with gzip.open(path, "wt", compresslevel=5) as file:
        for row, (user, item, votes, stars, day) in enumerate(draws):
            review = {
                "reviewerID": f"A{user:013d}",
                "asin": asin(item),
                "reviewerName": "Someone",
                "helpful": [0, votes],
                "reviewText": texts[row % len(texts)],
                "overall": stars + 1.0,
                "summary": texts[row % len(texts)][:40],
                "unixReviewTime": 1_300_000_000 + 86_400 * day,
                "reviewTime": "01 30, 2014",
            }
            file.write(json.dumps(review) + "\n")
    return path


@pytest.fixture(scope="module")
def meta(tmp_path_factory):
    """Lines in the form of ``meta_Beauty.json.gz``: the repr of a dict, about 2,500 characters each."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("raw") / "meta.json.gz"
    with gzip.open(path, "wt", compresslevel=5) as file:
        for row in range(ITEMS):
            related = {
                kind: [asin(int(other)) for other in random.integers(0, 250_000, random.integers(5, 60))]
                for kind in ("also_bought", "also_viewed", "bought_together")
            }
            item = {
                "asin": asin(row),
                "description": sentence(random, int(random.integers(10, 120))),
                "title": sentence(random, 9),
                "imUrl": "http://ecx.images-amazon.com/images/I/41.jpg",
                "related": related,
                "salesRank": {"Beauty": int(random.integers(500_000))},
                "categories": [["Beauty", "Skin Care", str(sentence(random, 2))]],
                "brand": str(random.choice(WORDS)),
                "price": round(float(random.uniform(1, 99)), 2),
            }
            gone = [key for key in ("brand", "price", "description") if random.random() < 0.2]
            file.write(repr({key: value for key, value in item.items() if key not in gone}) + "\n")
    return path


def test_reviews_against_a_json_line_loop(compare, reviews):
    def ours():
        return read_reviews(reviews, bad=BadRows("error"))

    table = ours().select("user_id", "item_id", "timestamp", "rating").rows()
    assert table == json_line_loop(reviews)
    compare(
        "reviews, 200,000 lines, checked",
        AtLeast(goal=2),
        ours=ours,
        reference=lambda: json_line_loop(reviews),
        against="a json line loop",
        rounds=5,
    )


def test_meta_against_literal_eval(compare, meta):
    def ours():
        return read_meta(meta, wanted=None, bad=BadRows("error"))

    fields = ("asin", "title", "brand", "price", "categories", "description")
    table = ours().select("item_id", *fields[1:]).rows()
    assert table == [plain(record) for record in literal_eval_loop(meta)]
    compare(
        "metadata, 6,000 lines, checked",
        AtLeast(goal=5),
        ours=ours,
        reference=lambda: literal_eval_loop(meta),
        against="ast.literal_eval line by line",
        rounds=5,
    )


def plain(record):
    """One row as the reader documents it, by hand: text without HTML's escapes, a path without its root."""
    texts = [html.unescape(record[name]) if name in record else None for name in ("title", "brand", "description")]
    return record["asin"], texts[0], texts[1], record.get("price"), record["categories"][0][1:], texts[2]
