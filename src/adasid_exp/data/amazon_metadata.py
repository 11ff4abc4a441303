"""The public metadata files: Python literals line by line, gzipped, read without evaluating them."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Set as AbstractSet
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from adasid_exp.data.amazon_text import clean_text, identifier
from adasid_exp.data.gzip_lines import parsed_lines
from adasid_exp.data.policy import (
    ROW,
    BadRows,
)
from adasid_exp.types import UserError

ITEM_SCHEMA = pa.schema(
    {
        ROW: pa.uint32(),
        "item_id": pa.large_string(),
        "title": pa.large_string(),
        "brand": pa.large_string(),
        "price": pa.float64(),
        "categories": pa.large_list(pa.large_string()),
        "description": pa.large_string(),
    }
)
"""Of the metadata's table; an arrow schema, since arrow takes lists of lists ten times faster than polars."""
META_FIELDS = ("asin", "title", "brand", "price", "categories", "description")


def read_meta(file: Path, *, wanted: AbstractSet[str] | None, bad: BadRows) -> pl.DataFrame:
    """Items of the metadata as ``ITEM_SCHEMA`` in file order; all are checked, ``wanted`` ones are kept.

    Raises:
        UserError: the file holds no line, or a bad one and the policy is to stop.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # odd escapes in a description are the data's affair
        lines = parsed_lines(file, parse=lambda line: item_of(fields_of(line), wanted=wanted), bad=bad)
        cells = [cell for row in lines if len(row) > 1 for cell in row]  # flat: no tuples for the collector to walk
    if not cells:
        raise UserError(f"{file} is empty: it describes no item of the reviews; download the file again")
    width = len(ITEM_SCHEMA)
    columns = [pa.array(cells[place::width], type=ITEM_SCHEMA.types[place]) for place in range(width)]
    return pl.DataFrame(pa.table(columns, schema=ITEM_SCHEMA))


def item_of(fields: dict[str, Any], *, wanted: AbstractSet[str] | None) -> tuple[Any, ...]:
    """One item in the order of ``ITEM_SCHEMA``; nothing where it is not wanted.

    Raises:
        ValueError: a field is of another type.
    """
    item = identifier(fields.get("asin"))
    if wanted is not None and item is not None and item not in wanted:
        return ()
    price = fields.get("price")
    if isinstance(price, bool) or not isinstance(price, int | float | None):
        raise ValueError(f"price {price!r} is no number")
    title, brand, description = (
        clean_text(fields.get("title")),
        clean_text(fields.get("brand")),
        fields.get("description"),
    )
    return item, title, brand, price, _category_path(fields.get("categories")), clean_text(description)


def _grammar() -> re.Pattern[str]:
    """One ``'key': value`` of a dict's repr with the separator in front; what is unsure it does not match."""
    no = r"\\\r\x00"  # neither escapes nor what Python does not allow inside a string
    escape = r"""\\(?:[\\'"abfnrtv]|x[0-9a-f]{2}|u[0-9a-f]{4})"""
    string = rf"'[^'{no}]*(?:{escape}[^'{no}]*)*'" + rf'|"[^"{no}]*(?:{escape}[^"{no}]*)*"'
    plain = rf"(?:'[^'{no}]*+'|\"[^\"{no}]*+\")"
    number = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
    names = rf"\[(?:{plain}(?:, )?)*+\]"
    nested = rf"\[(?:{names}(?:, )?)*+\]|{names}|\{{(?:{plain}: (?:{names}|{number})(?:, )?)*+\}}"
    return re.compile(rf"(?:^\{{|, )'(\w+)': ({string}|{nested}|{number}|None)")


ENTRY = _grammar()
BESIDE_KEY_AND_VALUE = len("{'': ") + len("}")
"""Characters an entry has beside key and value; n - 1 separators ``", "`` make it 6 n in all."""


def fields_of(line: str) -> dict[str, Any]:
    """The fields of one metadata line: by pattern where that explains every character, else as a literal.

    Raises:
        ValueError: the line is no Python literal of a dict.
    """
    entries = ENTRY.findall(line)
    explained = len("".join(map("".join, entries))) + BESIDE_KEY_AND_VALUE * len(entries)
    if explained == len(line) and line[-1:] == "}":
        found = dict(entries)
        return {name: _value(found[name]) for name in META_FIELDS if name in found}
    record = _literal(line)
    if not isinstance(record, dict):
        raise ValueError("not a Python dict")
    return {name: record[name] for name in META_FIELDS if name in record}


def _value(text: str) -> Any:
    first = text[0]
    if first in "'\"":
        return _unescaped(text[1:-1]) if "\\" in text else text[1:-1]
    if first == "[":
        return _repeated(text)
    return None if text == "None" else _literal(text) if first == "{" else _number(text)


def _unescaped(text: str) -> str:
    """The inside of a string literal whose escapes the grammar has seen; ten times faster than a literal."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape")


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


@lru_cache(maxsize=1 << 14)
def _repeated(text: str) -> Any:
    """A category tree; a catalogue has thousands of items but only hundreds of these."""
    return _literal(text)


def _category_path(value: object) -> tuple[str | None, ...] | None:
    """The first path of the tree without its root, which is the name of the file's category."""
    if not isinstance(value, list | None):
        raise ValueError(f"categories {value!r} is no list")
    path = value[0] if value and isinstance(value[0], list) else value
    return tuple([clean_text(entry) for entry in path[1:]]) if path else None
