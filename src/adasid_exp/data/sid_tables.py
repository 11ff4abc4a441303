"""Reads the SIDs of other code bases: Parquet, CSV, JSON and JSON lines.

A table has the column ``item_id`` and either ``codes`` (a list, or a text such as ``12-3-4`` or ``<a_12><b_3>``) or
``c0 .. cN``. A JSON file may also map items to lists, as LETTER, TIGER and LC-Rec publish them (``.index.json``).
A slot that is not used holds -1 or null; SIDs shorter than the longest end in such slots.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from adasid_exp.artifacts.semantic_ids import LAYOUT, SemanticIds
from adasid_exp.data.policy import ROW, one_line
from adasid_exp.data.tables import load_table
from adasid_exp.types import PAD, UserError

SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
TOKEN = r"<([A-Za-z]+)_(\d+)>"
"""A code as vocabularies of language models spell it; the letter names the slot."""

TOKENS = r"^\s*(<[A-Za-z]+_\d+>\s*)+$"
NUMBERS = r"^\s*\[?\s*-?\d+(\s*[-,;| ]\s*-?\d+)*\s*\]?\s*$"
LARGEST = 2**31 - 1
WAYS = "a list of integers, a text like 12-3-4 or <a_12><b_3>, or columns c0 .. cN"


@dataclass(frozen=True, kw_only=True)
class SidFile:
    """A SID table of whatever origin.

    Attributes:
        sids: the table.
        notes: what had to be assumed while reading, one line each.
    """

    sids: SemanticIds
    notes: tuple[str, ...]


def load_sids(path: Path, sizes: Sequence[int] | None) -> SidFile:
    """The SIDs of an `assign` artifact's folder or of a foreign file.

    Args:
        path: folder or file.
        sizes: codebook size of each slot of a foreign file; None takes the largest code plus one.

    Raises:
        UserError: the file is missing or unreadable, or a row is bad; with file and row.
    """
    if path.is_dir() or (not path.exists() and not path.suffix):
        if not (path / LAYOUT).exists():
            raise UserError(f"sids: {path} holds no {LAYOUT}; name an `assign` artifact or a {_spelt(SUFFIXES)} file")
        return SidFile(sids=SemanticIds.load(path), notes=())
    frame = _frame(path)
    codes, notes = _codes(frame, path)
    _check_ids(frame, path)
    _refuse(codes < PAD, codes, frame, path, f"is below {PAD}; unused slots hold {PAD} or null")
    found = tuple(int(size) for size in np.maximum(codes.max(axis=0, initial=0), 0) + 1)
    sizes = found if sizes is None else _checked_sizes(tuple(sizes), codes, frame, path)
    if sizes is found:
        notes = (*notes, f"codebook sizes inferred as largest code + 1: {_spelt(found)}; stage.sizes=[...] sets them")
    table = SemanticIds(
        item_ids=np.asarray(frame["item_id"].to_list(), dtype=np.str_),
        codes=codes.astype(np.int16 if max(sizes) <= 2**15 else np.int32),
        weights=(codes != PAD).astype(np.float32),
        modalities=("unknown",) * codes.shape[1],
        sizes=sizes,
        ordered=True,
    )
    return SidFile(sids=table, notes=notes)


def _frame(path: Path) -> pl.DataFrame:
    """The rows with their number, ``item_id`` as text."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"sids: {path} is none of {_spelt(SUFFIXES)}; convert it to one of them")
    if not path.is_file():
        raise UserError(f"sids: {path} is missing; name an `assign` artifact or a {_spelt(SUFFIXES)} file")
    frame = load_table(path) if path.suffix in (".parquet", ".csv", ".tsv") else _json_frame(path)
    if "item_id" not in frame.columns:
        raise UserError(
            f"{path} has no column item_id (it has {_spelt(frame.columns[1:])}); rename the one with the ids"
        )
    if frame["item_id"].dtype.is_nested():
        raise UserError(f"{path}, column item_id: type {frame['item_id'].dtype} is no id; store text or integers")
    return frame.with_columns(pl.col("item_id").cast(pl.String))


def _json_frame(path: Path) -> pl.DataFrame:
    """JSON lines of records, a JSON list of records, or a JSON mapping from item to codes."""
    try:
        if path.suffix != ".json":
            frame = pl.read_ndjson(path, infer_schema_length=None)
        else:
            data = json.loads(path.read_text(encoding="utf-8"))
            frame = _mapped(data, path) if isinstance(data, dict) else pl.DataFrame(data, infer_schema_length=None)
    except (OSError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise UserError(one_line(f"{path} is not readable JSON of SIDs ({error}); map items to lists")) from error
    if not frame.height:
        raise UserError(f"{path} is empty; write at least one item")
    return frame.with_row_index(ROW, offset=1)


def _mapped(data: dict[str, object], path: Path) -> pl.DataFrame:
    """Item -> list of integers, list of tokens, or text; all of one kind."""
    for row, (item, value) in enumerate(data.items(), start=1):
        if not isinstance(value, list | str):
            raise UserError(one_line(f"{path}, row {row} (item {item}): {value!r} is no SID; map each item to {WAYS}"))
    return pl.DataFrame({"item_id": list(data), "codes": list(data.values())})


def _codes(frame: pl.DataFrame, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes int64 ``[items, slots]`` and what was assumed."""
    numbered = sorted((name for name in frame.columns if re.fullmatch(r"c\d+", name)), key=lambda name: int(name[1:]))
    if "codes" not in frame.columns and numbered:
        gaps = [f"c{slot}" for slot in range(len(numbered)) if f"c{slot}" not in numbered]
        if gaps:
            raise UserError(f"{path} has {_spelt(numbered)} but no column {gaps[0]}; slots are numbered from c0")
        return np.stack([_whole(frame[name], frame, path) for name in numbered], axis=1), ()
    if "codes" not in frame.columns:
        raise UserError(f"{path} has no column codes (it has {_spelt(frame.columns[1:])}); store codes as {WAYS}")
    column = frame["codes"]
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if isinstance(column.dtype, pl.List) and column.dtype.inner == pl.String:
        tokens = bool((column.list.join(" ").str.contains("<")).any())
        column = column.list.join("" if tokens else " ")
    if column.dtype == pl.String:
        return _from_text(column, frame, path)
    if isinstance(column.dtype, pl.List):
        return _from_lists(column, frame, path)
    return _whole(column, frame, path)[:, None], ()


def _from_text(column: pl.Series, frame: pl.DataFrame, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Texts such as ``12-3-4``, ``[12, 3, 4]`` or ``<a_12><b_3>``."""
    tokens = bool(column.str.contains("<").any())
    bad = ~column.str.contains(TOKENS if tokens else NUMBERS).fill_null(value=False)
    if bad.any():
        at = int(bad.arg_max() or 0)
        raise UserError(one_line(f"{path}, row {frame[ROW][at]}: codes {column[at]!r} cannot be read; store {WAYS}"))
    if tokens:
        return _from_tokens(column, frame, path)
    # A hyphen behind a digit separates; any other is a sign.
    numbers = column.str.replace_all(r"(\d)-", "$1 ").str.extract_all(r"-?\d+")
    return _from_lists(numbers.cast(pl.List(pl.Int64)), frame, path)


def _from_tokens(column: pl.Series, frame: pl.DataFrame, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Tokens: the letter says which slot, in the order of the alphabet; a single letter says nothing."""
    lists = column.str.extract_all(TOKEN)
    parts = lists.explode().str.extract_groups(TOKEN)
    letters = parts.struct.field("1")
    names = sorted(letters.unique().to_list(), key=lambda name: (len(name), name))
    numbers = parts.struct.field("2").cast(pl.Int64)
    row = np.repeat(np.arange(len(lists)), lists.list.len().to_numpy())
    if len(names) == 1:
        return _from_lists(pl.DataFrame({"row": row, "code": numbers}).group_by("row", maintain_order=True)
                           .agg("code")["code"], frame, path)  # fmt: skip
    slot = letters.replace_strict(names, list(range(len(names))), return_dtype=pl.Int64).to_numpy()
    cell, times = np.unique(row * len(names) + slot, return_counts=True)
    if (times > 1).any():
        at = int(cell[times > 1][0]) // len(names)
        raise UserError(f"{path}, row {frame[ROW][at]}: {column[at]} names a slot twice; one token a slot")
    codes = np.full((len(lists), len(names)), PAD, dtype=np.int64)
    codes[row, slot] = numbers.to_numpy()
    absent = int((codes == PAD).any(axis=1).sum())
    return codes, (f"{absent} items lack a token of some slot: read as unused slots",) if absent else ()


def _from_lists(column: pl.Series, frame: pl.DataFrame, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Lists of numbers; short ones end in PAD."""
    length = column.list.len()
    if bool((length.fill_null(0) == 0).any()):
        at = int((length.fill_null(0) == 0).arg_max() or 0)
        raise UserError(f"{path}, row {frame[ROW][at]}: no codes; give the item a SID or leave it out")
    lengths = length.to_numpy().astype(np.int64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    codes = np.full((len(lengths), int(lengths.max())), PAD, dtype=np.int64)
    codes[row, place] = _whole(column.explode(), frame[row], path)
    short = int((lengths < lengths.max()).sum())
    return codes, (
        f"{short} SIDs are shorter than {lengths.max()}: their last slots are read as unused",
    ) if short else ()


def _whole(column: pl.Series, frame: pl.DataFrame, path: Path) -> np.ndarray:
    """A column of numbers as int64, null and NaN as PAD."""
    if not column.dtype.is_numeric() and column.dtype != pl.Null:
        raise UserError(f"{path}, column {column.name}: type {column.dtype} holds no codes; store {WAYS}")
    numbers = column.cast(pl.Float64).fill_nan(None).fill_null(PAD).to_numpy()
    bad = (numbers != np.floor(numbers)) | (np.abs(numbers) > LARGEST)
    if bad.any():
        at = int(np.argmax(bad))
        raise UserError(
            f"{path}, row {frame[ROW][at]}: code {numbers[at]:g} is no integer below 2^31; store whole codes"
        )
    return numbers.astype(np.int64)


def _check_ids(frame: pl.DataFrame, path: Path) -> None:
    """Every item once."""
    bad = frame["item_id"].is_null()
    if bad.any():
        raise UserError(f"{path}, row {frame[ROW][int(bad.arg_max() or 0)]}: no item_id; name the item or drop the row")
    again = ~frame["item_id"].is_first_distinct()
    if again.any():
        at = int(again.arg_max() or 0)
        raise UserError(
            f"{path}, row {frame[ROW][at]}: item {frame['item_id'][at]} is there already; keep one row an item"
        )


def _checked_sizes(sizes: tuple[int, ...], codes: np.ndarray, frame: pl.DataFrame, path: Path) -> tuple[int, ...]:
    """``sizes`` if the codes fit."""
    if len(sizes) != codes.shape[1]:
        raise UserError(f"stage.sizes has {len(sizes)} sizes, {path} has {codes.shape[1]} slots; give one size a slot")
    _refuse(
        codes >= np.asarray(sizes), codes, frame, path, f"is outside its codebook; stage.sizes says {_spelt(sizes)}"
    )
    return sizes


def _refuse(bad: np.ndarray, codes: np.ndarray, frame: pl.DataFrame, path: Path, why: str) -> None:
    if bad.any():
        at, slot = (int(place) for place in np.argwhere(bad)[0])
        raise UserError(f"{path}, row {frame[ROW][at]}: code {codes[at, slot]} of slot {slot} {why}")


def _spelt(names: Sequence[object]) -> str:
    return ", ".join(map(str, names))
