"""Items that join a published catalogue: ids and content embeddings, read from a folder of the open schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.artifacts.store import file_digest
from adasid_exp.data.tables import arrays_in, load_array
from adasid_exp.types import UserError

ITEMS, ITEM_ID, COUNT = "items.parquet", "item_id", "count"


def fingerprint(folder: Path) -> dict[str, Any]:
    """Digests of the table and the arrays.

    Raises:
        UserError: the table is missing.
    """
    if not (folder / ITEMS).is_file():
        raise UserError(f"stage.new_items: {folder} holds no {ITEMS}; name the folder of the new items (docs/data.md)")
    return {file.name: file_digest(file) for file in [folder / ITEMS, *arrays_in(folder)]}


def read_new_items(folder: Path, dims: Mapping[str, int], behavior: str) -> tuple[np.ndarray, ItemEmbeddings]:
    """Ids, string ``[items]``, and what a tokenizer reads of them.

    An item that the published behavior model never saw has no behavior: where the folder brings no array of it, its
    vector is 0, as short as an untrained row. Counts are those of a column ``count``, else 0.

    Args:
        folder: ``items.parquet`` and ``<modality>[_<encoder>].npy``, rows alike.
        dims: widths of the modalities that the tokenizer reads.
        behavior: which of them may be missing.

    Raises:
        UserError: an id is missing or stands twice; an array is missing, or of another shape than it must be.
    """
    table = _table(folder / ITEMS)
    arrays = {file.stem.split("_")[0]: file for file in arrays_in(folder)}
    features = {
        name: np.zeros((len(table), dim), np.float32)
        if name == behavior and name not in arrays
        else _array(folder, arrays.get(name), name, (len(table), dim))
        for name, dim in dims.items()
    }
    count = table[COUNT].to_numpy() if COUNT in table.columns else np.zeros(len(table))
    return table[ITEM_ID].to_numpy(), ItemEmbeddings(features=features, count=count.astype(np.int64))


def _table(file: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{file} is unreadable ({str(error).splitlines()[0]}); write it again as Parquet") from error
    if ITEM_ID not in table.columns or not len(table):
        raise UserError(f"{file} has no rows with an {ITEM_ID}; docs/data.md says what it must hold")
    table = table.with_columns(pl.col(ITEM_ID).cast(pl.String))
    bad = table[ITEM_ID].is_null() | ~table[ITEM_ID].is_first_distinct()
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise UserError(f"{file} row {row + 1}: item_id {table[ITEM_ID][row]} is missing or stands twice; list it once")
    return table


def _array(folder: Path, file: Path | None, name: str, shape: tuple[int, int]) -> np.ndarray:
    if file is None:
        raise UserError(
            f"stage.new_items: {folder} brings no {name}.npy, which the tokenizer reads; embed the new items"
        )
    array = load_array(file)
    if array.shape != shape or array.dtype.kind != "f":
        raise UserError(f"{file} is {array.dtype} {list(array.shape)}, wanted floats {list(shape)}; embed as before")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise UserError(f"{file} row {bad[0] + 1} holds NaN or Inf; repair it or leave the item out")
    return array.astype(np.float32)
