"""What makes a row of raw data unusable, and what happens then: the run stops, or the row is counted out.

Every fault is named in one line: file, row (counted from 1), what is wrong, the way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from adasid_exp.types import UserError

POLICIES = ("error", "skip")
ROW = "row"
"""Column of the row's number in its file, counted from 1."""

YEAR_2100 = 4_102_444_800
"""Unix seconds; whatever is later was written in milliseconds or finer."""

SKIP_HINT = "or set data.on_bad_row=skip to leave it out"
TEXT_COLUMNS = ("title", "brand", "categories", "description")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A way in which a row can be bad.

    Attributes:
        reason: the name it is counted under.
        problem: what to say, a ``str.format`` pattern over the row's columns.
        remedy: what the user can do.
    """

    reason: str
    problem: str
    remedy: str


@dataclass
class BadRows:
    """The policy and its tally.

    Attributes:
        on_bad_row: "error" raises at the first bad row, "skip" leaves bad rows out.
        skipped: how many were left out, by reason.

    Raises:
        UserError: the policy is neither of the two.
    """

    on_bad_row: str
    skipped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_bad_row not in POLICIES:
            raise UserError(f"data.on_bad_row is {self.on_bad_row!r}; choose error or skip")

    def report(
        self, *, file: Path | str, row: int | None, fault: Fault, values: Mapping[str, object], more: int = 0
    ) -> None:
        """Raises for a fault, or counts it (``1 + more`` times).

        Raises:
            UserError: the policy is "error".
        """
        if self.on_bad_row == "skip":
            self.skipped[fault.reason] = self.skipped.get(fault.reason, 0) + 1 + more
            return
        place = str(file) if row is None else f"{file}, row {row}"
        others = f" (and {more:,} more such rows)" if more else ""
        problem = fault.problem.format_map({name: _short(value) for name, value in values.items()})
        raise UserError(one_line(f"{place}: {problem}{others}; {fault.remedy}, {SKIP_HINT}"))

    def drop(self, frame: pl.DataFrame, bad: pl.Expr, *, file: Path | str, fault: Fault) -> pl.DataFrame:
        """The rows of ``frame`` for which ``bad`` does not hold; the others are reported."""
        flags = frame.select(bad.fill_null(value=False).alias("bad"))["bad"]
        count = int(flags.sum())
        if not count:
            return frame
        first = frame.row(int(flags.arg_max() or 0), named=True)
        self.report(file=file, row=first[ROW], fault=fault, values=first, more=count - 1)
        return frame.filter(~flags)


def one_line(text: str) -> str:
    """``text`` with every run of white space, line ends included, as one space."""
    return " ".join(text.split())


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_interactions(rows: pl.DataFrame, *, file: Path, bad: BadRows) -> pl.DataFrame:
    """Interactions with ids, a timestamp in seconds and a rating from 1 to 5, each such triple once.

    Args:
        rows: ``row, user_id, item_id, timestamp``, perhaps ``rating``.
        file: where they came from, for the message.
        bad: the policy.
    """
    seconds = pl.col("timestamp")
    checks: list[tuple[pl.Expr, Fault]] = [
        (_blank("user_id"), _missing("user_id", "give every interaction a user")),
        (_blank("item_id"), _missing("item_id", "give every interaction an item")),
        (seconds.is_null(), _missing("timestamp", "give every interaction its time in unix seconds")),
        (seconds < 0, NEGATIVE_TIMESTAMP),
        (seconds >= YEAR_2100, MILLISECONDS),
    ]
    if "rating" in rows.columns:
        checks.append((~pl.col("rating").is_between(1, 5), RATING))
    for expression, fault in checks:
        rows = bad.drop(rows, expression, file=file, fault=fault)
    key = pl.struct("user_id", "item_id", "timestamp")
    return bad.drop(rows, ~key.is_first_distinct(), file=file, fault=DUPLICATE_INTERACTION)


def check_items(rows: pl.DataFrame, *, file: Path, bad: BadRows) -> pl.DataFrame:
    """Items with an id of their own and, where there are columns of text at all, something in one of them.

    Args:
        rows: ``row, item_id`` and further columns.
        file: where they came from, for the message.
        bad: the policy.
    """
    rows = bad.drop(rows, _blank("item_id"), file=file, fault=_missing("item_id", "give every item an id"))
    rows = bad.drop(rows, ~pl.col("item_id").is_first_distinct(), file=file, fault=DUPLICATE_ITEM)
    written = [_blank(name, rows.schema[name]) for name in TEXT_COLUMNS if name in rows.columns]
    return bad.drop(rows, pl.all_horizontal(written), file=file, fault=NO_TEXT) if written else rows


def check_known_items(
    rows: pl.DataFrame, items: pl.DataFrame, *, file: Path, catalogue: Path, bad: BadRows
) -> pl.DataFrame:
    """Interactions whose item the catalogue holds."""
    fault = Fault(
        reason="interaction with an item the catalogue lacks",
        problem=f"item_id {{item_id}} is not in {catalogue.name}",
        remedy=f"add the item to {catalogue.name} or remove its interactions",
    )
    return bad.drop(rows, ~pl.col("item_id").is_in(items["item_id"].implode()), file=file, fault=fault)


def check_array(array: np.ndarray, *, rows: int, file: Path, bad: BadRows) -> np.ndarray | None:
    """A float array ``[rows, dim]`` without NaN or Inf; None where it has to be left out as a whole.

    A skipped row takes the mean of the good ones, so that it stays in line with its item.
    """
    if array.dtype not in (np.float16, np.float32, np.float64) or array.ndim != 2:
        bad.report(file=file, row=None, fault=ARRAY_TYPE, values={"dtype": array.dtype, "shape": array.shape})
        return None
    if len(array) != rows:
        bad.report(file=file, row=None, fault=ARRAY_ROWS, values={"found": len(array), "rows": rows})
        return None
    good = finite_rows(array)
    if good.all():
        return array
    first = int(np.argmin(good))
    bad.report(
        file=file,
        row=first + 1,
        fault=NOT_FINITE,
        more=int((~good).sum()) - 1,
        values={"value": _oddity(array[first])},
    )
    return fill_with_mean(array, good)


def finite_rows(array: np.ndarray, block: int = 4096) -> np.ndarray:
    """Whether all of a row's values are finite, bool ``[rows]``; by blocks, so that the mask stays small."""
    parts = [np.isfinite(array[i : i + block]).all(axis=1) for i in range(0, len(array), block)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def fill_with_mean(array: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A copy whose rows outside ``known`` hold the mean of the known ones."""
    filled = np.array(array)
    filled[~known] = array[known].mean(axis=0, dtype=np.float64) if known.any() else 0.0
    return filled


def left_out(skipped: Mapping[str, int]) -> tuple[str, ...]:
    """The note that tells a report what was skipped."""
    if not skipped:
        return ()
    return ("left out by data.on_bad_row=skip: " + ", ".join(f"{n:,} x {reason}" for reason, n in skipped.items()),)


def _oddity(row: np.ndarray) -> str:
    return "NaN" if np.isnan(row).any() else "Inf"


def _blank(name: str, dtype: pl.DataType | None = None) -> pl.Expr:
    """Null, or nothing but white space; a list: nothing in it."""
    if isinstance(dtype, pl.List):
        written = pl.col(name).list.eval(pl.element().str.strip_chars().str.len_bytes() > 0).list.any()
        return ~written.fill_null(value=False)
    if isinstance(dtype, pl.Null):
        return pl.lit(value=True)
    return pl.col(name).is_null() | (pl.col(name).str.strip_chars().str.len_bytes() == 0)


def _missing(name: str, remedy: str) -> Fault:
    return Fault(reason=f"row without {name}", problem=f"{name} is missing", remedy=remedy)


NEGATIVE_TIMESTAMP = Fault(
    reason="negative timestamp",
    problem="timestamp {timestamp} is negative",
    remedy="give unix seconds (1970 or later)",
)
MILLISECONDS = Fault(
    reason="timestamp not in seconds",
    problem="timestamp {timestamp} is later than the year 2099, so it is not in seconds (milliseconds?)",
    remedy="divide the column by 1000",
)
RATING = Fault(
    reason="rating out of range",
    problem="rating {rating} is not between 1 and 5",
    remedy="mend the rating",
)
DUPLICATE_INTERACTION = Fault(
    reason="duplicate interaction",
    problem="user_id {user_id}, item_id {item_id}, timestamp {timestamp} occurs a second time",
    remedy="keep one of the two rows",
)
DUPLICATE_ITEM = Fault(
    reason="duplicate item",
    problem="item_id {item_id} occurs a second time",
    remedy="keep one of the two rows",
)
NO_TEXT = Fault(
    reason="item without text",
    problem=f"item_id {{item_id}} has no text (all of {', '.join(TEXT_COLUMNS)} are empty or absent)",
    remedy="give the item a title",
)
ARRAY_TYPE = Fault(
    reason="array of an unknown type",
    problem="an array of type {dtype} and shape {shape} is no embedding",
    remedy="store float16 or float32 [items, dim]",
)
ARRAY_ROWS = Fault(
    reason="array with the wrong number of rows",
    problem="the array has {found} rows, the item table {rows}",
    remedy="compute it again for the items in their present order",
)
NOT_FINITE = Fault(
    reason="NaN or Inf in an array",
    problem="the embedding holds {value}",
    remedy="compute the row again",
)
