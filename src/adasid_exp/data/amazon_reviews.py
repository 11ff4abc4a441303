"""The public review files: JSON lines, gzipped."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from adasid_exp.data.amazon_text import identifier
from adasid_exp.data.gzip_lines import parsed_lines
from adasid_exp.data.policy import (
    ROW,
    BadRows,
    check_interactions,
)
from adasid_exp.types import UserError

REVIEW_COLUMNS = {
    "reviewerID": pl.String,
    "asin": pl.String,
    "unixReviewTime": pl.Int64,
    "overall": pl.Float64,
}
NAMES = {"reviewerID": "user_id", "asin": "item_id", "unixReviewTime": "timestamp", "overall": "rating"}


def read_reviews(file: Path, *, bad: BadRows) -> pl.DataFrame:
    """Checked ``row, user_id, item_id, timestamp, rating`` in file order.

    Polars reads the file at once; only where it, or a check, stumbles are the lines read one by one, to
    name the row or to leave it out.
    """
    try:
        rows = _whole_file(file)
        checked = check_interactions(rows, file=file, bad=BadRows("error"))
    except (pl.exceptions.PolarsError, OSError, UserError):
        checked = check_interactions(_line_by_line(file, bad), file=file, bad=bad)
    if not checked.height:
        raise UserError(f"{file} is empty: no review can be used; download the file again")
    return checked


def _whole_file(file: Path) -> pl.DataFrame:
    frame = pl.scan_ndjson(file, schema=REVIEW_COLUMNS).select(list(NAMES)).collect()
    return frame.rename(NAMES).with_row_index(ROW, offset=1)


def _line_by_line(file: Path, bad: BadRows) -> pl.DataFrame:
    schema = {ROW: pl.UInt32, **{NAMES[name]: dtype for name, dtype in REVIEW_COLUMNS.items()}}
    rows = list(parsed_lines(file, parse=review_of, bad=bad))
    return pl.DataFrame(rows, schema=schema, orient="row")


def review_of(line: str) -> tuple[str | None, str | None, int | None, float | None]:
    """User, item, unix seconds and rating of one line.

    Raises:
        ValueError: the line is no JSON object or a field is of another type.
    """
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    user, item, time, rating = (record.get(name) for name in NAMES)
    if isinstance(time, bool) or not isinstance(time, int | None):
        raise ValueError(f"unixReviewTime {time!r} is no integer")
    if isinstance(rating, bool) or not isinstance(rating, int | float | None):
        raise ValueError(f"overall {rating!r} is no number")
    return identifier(user), identifier(item), time, rating
