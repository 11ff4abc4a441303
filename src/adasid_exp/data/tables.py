"""The open schema, for any catalogue: a table of interactions, a table of items, arrays of embeddings.

``docs/data.md`` is the contract in words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.data.digests import FileDigests
from adasid_exp.data.policy import (
    ROW,
    BadRows,
    Fault,
    check_array,
    check_interactions,
    check_items,
    check_known_items,
    left_out,
    one_line,
)
from adasid_exp.data.raw import RawTables, TableReader, with_liked
from adasid_exp.types import UserError

SUFFIXES = (".parquet", ".csv", ".tsv")
Conversion = Callable[[pl.Expr, pl.DataType], pl.Expr | None]
"""From a column and its type to the type of the schema; None where the type says nothing clear."""


class Tables(TableReader):
    """A folder with ``interactions`` and ``items`` (.parquet, .csv, .tsv) and ``<modality>[_<encoder>].npy``.

    Args:
        root: the folder.
        on_bad_row: "error" stops at the first bad row, "skip" leaves bad rows out and counts them.
        digest_cache: JSON file that remembers the files' digests; None hashes them each time.
    """

    def __init__(self, *, root: str | Path, on_bad_row: str, digest_cache: str | Path | None) -> None:
        BadRows(on_bad_row)
        self.root = Path(root)
        self.on_bad_row = on_bad_row
        self.digests = FileDigests(cache=digest_cache)

    def fingerprint(self) -> dict[str, Any]:
        """Digests of the tables and arrays, and the policy.

        Raises:
            UserError: a table is missing.
        """
        files = [self.file_of("interactions"), self.file_of("items"), *arrays_in(self.root)]
        return {
            "reader": "tables",
            "on_bad_row": self.on_bad_row,
            "files": {file.name: self.digests.of(file) for file in files},
        }

    def read(self) -> RawTables:
        """Reads and checks the tables and arrays.

        Raises:
            UserError: a table is missing, empty or lacks a column; a row is bad and the policy is to stop.
        """
        bad = BadRows(self.on_bad_row)
        users_file, items_file = self.file_of("interactions"), self.file_of("items")
        listed = typed(load_table(items_file), ITEM_COLUMNS, file=items_file, bad=bad)
        interactions = typed(load_table(users_file), INTERACTION_COLUMNS, file=users_file, bad=bad)
        items = check_items(listed, file=items_file, bad=bad)
        arrays, notes = self._arrays(listed.height, items[ROW].to_numpy() - 1, bad)
        rows = check_interactions(interactions, file=users_file, bad=bad)
        rows = check_known_items(rows, items, file=users_file, catalogue=items_file, bad=bad)
        return RawTables(
            interactions=with_liked(rows),
            items=items.drop(ROW),
            arrays=arrays,
            skipped=bad.skipped,
            notes=(*notes, f"tables {users_file.name} and {items_file.name}", *left_out(bad.skipped)),
        )

    def file_of(self, name: str) -> Path:
        """The file of the table ``interactions`` or ``items``.

        Raises:
            UserError: there is none, or more than one.
        """
        found = [self.root / f"{name}{suffix}" for suffix in SUFFIXES if (self.root / f"{name}{suffix}").is_file()]
        if not found:
            raise UserError(
                f"{self.root} holds no {name}.parquet (nor .csv, .tsv); set data.root to a folder with "
                "interactions.parquet and items.parquet (docs/data.md says what is in them)"
            )
        if len(found) > 1:
            names = " and ".join(file.name for file in found)
            raise UserError(f"{self.root} holds {names}; keep one of them")
        return found[0]

    def _arrays(self, rows: int, kept: np.ndarray, bad: BadRows) -> tuple[dict[str, np.ndarray], list[str]]:
        """Checked arrays of the kept items by modality, and where each came from."""
        arrays: dict[str, np.ndarray] = {}
        notes: list[str] = []
        for file in arrays_in(self.root):
            name, _, encoder = file.stem.partition("_")
            if name in arrays:
                raise UserError(f"{self.root} holds two arrays of modality {name} ({file.name}); keep one of them")
            array = check_array(load_array(file), rows=rows, file=file, bad=bad)
            if array is None:
                continue
            arrays[name] = array if len(kept) == rows else array[kept]
            notes.append(f"{name}: array {file.name}{f', encoder {encoder}' if encoder else ''}, dim {array.shape[1]}")
        return arrays, notes


def arrays_in(root: Path) -> list[Path]:
    """The embedding arrays of a folder, by name."""
    return sorted(root.glob("*.npy"))


def load_array(file: Path) -> np.ndarray:
    """An array without objects inside.

    Raises:
        UserError: the file is no such array.
    """
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(one_line(f"{file} is not a readable .npy array ({error}); write it with numpy.save")) from error


def load_table(file: Path) -> pl.DataFrame:
    """A table with the column ``row`` (from 1) in front; the columns of ids in a text file stay text.

    Raises:
        UserError: the file is empty or damaged.
    """
    try:
        frame = _read(file) if file.stat().st_size else pl.DataFrame()
    except (pl.exceptions.PolarsError, OSError) as error:
        kind = file.suffix.removeprefix(".")
        raise UserError(one_line(f"{file} is not a readable {kind} table ({error}); write it again")) from error
    if not frame.height:
        raise UserError(f"{file} is empty; write a table with at least one row")
    return frame.drop(ROW, strict=False).with_row_index(ROW, offset=1)


def _read(file: Path) -> pl.DataFrame:
    if file.suffix == ".parquet":
        return pl.read_parquet(file)
    separator = "\t" if file.suffix == ".tsv" else ","
    header = pl.read_csv(file, separator=separator, n_rows=0).columns
    text = dict.fromkeys(("user_id", "item_id", "title", "brand", "categories", "description"), pl.String)
    overrides = {name: dtype for name, dtype in text.items() if name in header}
    return pl.read_csv(file, separator=separator, schema_overrides=overrides, infer_schema_length=None)


def typed(
    frame: pl.DataFrame, columns: dict[str, tuple[Conversion, bool, str]], *, file: Path, bad: BadRows
) -> pl.DataFrame:
    """``frame`` with the schema's columns in the schema's types; columns it does not know stay as they are.

    Raises:
        UserError: a required column is missing or of a type that cannot be read without guessing.
    """
    for name, (conversion, required, expected) in columns.items():
        if name not in frame.columns:
            if required:
                raise UserError(f"{file} has no column {name}; add it ({expected})")
            continue
        dtype = frame.schema[name]
        column = conversion(pl.col(name), dtype)
        if column is not None:
            frame = frame.with_columns(column.alias(name))
        elif required:
            raise UserError(one_line(f"{file}, column {name}: type {dtype} cannot be read; store it as {expected}"))
        else:
            fault = Fault(
                reason=f"column {name} of an unknown type",
                problem="column {name}: type {dtype} cannot be read",
                remedy=f"store it as {expected}",
            )
            bad.report(file=file, row=None, fault=fault, values={"name": name, "dtype": dtype})
            frame = frame.drop(name)
    return frame


def _identifier(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    known = dtype in (pl.String, pl.Categorical, pl.Enum) or dtype.is_integer()
    return column.cast(pl.String) if known else None


def _text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    return column.cast(pl.String) if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null) else None


def _seconds(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """Integers are unix seconds; dates and times are UTC where they name no zone."""
    if dtype.is_integer():
        return column.cast(pl.Int64, strict=False)
    return column.dt.epoch("s") if dtype in (pl.Date, pl.Datetime) else None


def _whole(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    return column.cast(pl.Int32, strict=False) if dtype.is_integer() else None


def _number(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """A float; NaN is how other libraries write an absent value."""
    return column.cast(pl.Float64).fill_nan(None) if dtype.is_numeric() or dtype == pl.Null else None


def _truth(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    return column.cast(pl.Boolean) if dtype in (pl.Boolean, pl.Null) else None


def _path(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """A list of names, or one text such as ``Makeup > Face > Concealers``."""
    if isinstance(dtype, pl.List) and dtype.inner in (pl.String, pl.Null):
        return column.cast(pl.List(pl.String))
    if dtype in (pl.String, pl.Null):
        return column.cast(pl.String).str.split(">").list.eval(pl.element().str.strip_chars())
    return None


_ID = (_identifier, True, "text or an integer")
INTERACTION_COLUMNS: dict[str, tuple[Conversion, bool, str]] = {
    "user_id": _ID,
    "item_id": _ID,
    "timestamp": (_seconds, True, "int64 unix seconds, a date or a datetime"),
    "position": (_whole, False, "an integer"),
    "liked": (_truth, False, "a boolean (null: unknown)"),
    "rating": (_number, False, "a number from 1 to 5 (null: unknown)"),
}
"""Name, conversion, whether it has to be there, and what it should be."""

ITEM_COLUMNS: dict[str, tuple[Conversion, bool, str]] = {
    "item_id": _ID,
    "title": (_text, False, "text"),
    "brand": (_text, False, "text"),
    "description": (_text, False, "text"),
    "price": (_number, False, "a number"),
    "categories": (_path, False, "a list of texts"),
}
