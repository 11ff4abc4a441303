"""The catalogue of logs: which items there are, and its table written with the columns it came with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adasid_exp.data.log_source import LogSource
from adasid_exp.data.log_table import KEYS, NumberTable, TextTable
from adasid_exp.data.policy import DUPLICATE_ITEM, ROW, BadRows, Fault, one_line
from adasid_exp.types import UserError

BATCH = 1 << 16
"""Rows of a table of items that are in memory at once."""
USED = "used.npy"
NO_ID = Fault(reason="item without id", problem="the id is missing", remedy="give every item an id")


@dataclass(frozen=True, kw_only=True)
class ItemFormat:
    """How to read the tables of items and their embeddings.

    Attributes:
        folder: where the tables are, below the root.
        id: name of the column of ids.
        embeddings: folder of one folder a modality, each of .npy shards whose rows, one shard after the
            other, belong to the rows of the tables; None without.
    """

    folder: str
    id: str
    embeddings: str | None


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The ids of the items that can be used; an item's index is its row over all tables.

    Attributes:
        table: finds an id's index.
        used: whether a row of the tables is an item, bool ``[rows]``.
    """

    table: NumberTable | TextTable
    used: np.ndarray

    def index_of(self, items: pl.Series) -> np.ndarray:
        """Index of each id, -1 where the catalogue lacks it, int32 ``[rows]``."""
        return self.table.rows_of(items) if len(items) else np.zeros(0, dtype=np.int32)


@lru_cache(maxsize=1)
def open_catalogue(folder: Path) -> Catalogue:
    """Reads what `save_catalogue` wrote, once a process."""
    kind = TextTable if (folder / KEYS).exists() else NumberTable
    return Catalogue(table=kind.load(folder), used=np.load(folder / USED))


def save_catalogue(source: LogSource, form: ItemFormat, dtype: pl.DataType, folder: Path, bad: BadRows) -> None:
    """Reads the ids of all tables and writes them, with their indices, into ``folder``.

    Args:
        source: the logs.
        form: where the tables are.
        dtype: of the items' ids in the events.
        folder: to write to.
        bad: the policy on missing and on repeated ids.

    Raises:
        UserError: there is no table, or one cannot be read.
    """
    ids = pl.concat([_ids(source, form, name, dtype) for name in item_tables(source, form)])
    known, first = pl.col("id").is_not_null(), pl.col("id").is_first_distinct()
    _report(ids.filter(~known), NO_ID, bad)
    _report(ids.filter(known & ~first), DUPLICATE_ITEM, bad)
    used = ids.select(known & first)["id"].to_numpy()
    if dtype == pl.Int64:
        NumberTable.of(ids["id"].fill_null(0).to_numpy(), used).save(folder)
    else:
        TextTable.of(ids["id"], used).save(folder)
    np.save(folder / USED, used)


def _report(rows: pl.DataFrame, fault: Fault, bad: BadRows) -> None:
    if rows.height:
        row = rows.row(0, named=True)
        values = {"item_id": row["id"]}
        bad.report(file=row["file"], row=row[ROW], fault=fault, values=values, more=rows.height - 1)


def item_tables(source: LogSource, form: ItemFormat) -> list[str]:
    """The tables of items, in order.

    Raises:
        UserError: there is none.
    """
    names = source.names(form.folder, ".parquet")
    if not names:
        raise UserError(
            f"{source.place(form.folder)} holds no .parquet table of items; put one with a column {form.id} there "
            "or set data.items.folder (docs/logs.md says what is in it)"
        )
    return names


def _ids(source: LogSource, form: ItemFormat, name: str, dtype: pl.DataType) -> pl.DataFrame:
    """``file, row, id`` of one table."""
    with open_table(source, name) as file:
        if form.id not in file.schema_arrow.names:
            raise UserError(f"{source.place(name)} has no column {form.id}; add it or set data.items.id")
        kind = file.schema_arrow.field(form.id).type
        if pa.types.is_integer(kind) != (dtype == pl.Int64):
            raise UserError(
                f"{source.place(name)}, column {form.id}: the type is {kind}, but the events name items by "
                f"{'integers' if dtype == pl.Int64 else 'text'}; store both alike"
            )
        ids = pl.from_arrow(_read(source, name, file, form.id))
    assert isinstance(ids, pl.DataFrame)
    place = pl.lit(source.place(name), dtype=pl.Categorical).alias("file")
    return ids.select(place, pl.col(form.id).cast(dtype).alias("id")).with_row_index(ROW, offset=1)


def _read(source: LogSource, name: str, file: pq.ParquetFile, column: str) -> pa.Table:
    try:
        return file.read(columns=[column])
    except (OSError, pa.ArrowException) as error:
        raise unreadable(source, name, error) from error


def open_table(source: LogSource, name: str) -> pq.ParquetFile:
    """A Parquet file.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return pq.ParquetFile(source.handle(name), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(source, name, error) from error


def unreadable(source: LogSource, name: str, error: Exception) -> UserError:
    """The one line for a damaged table."""
    return UserError(one_line(f"{source.place(name)} cannot be read ({error}); write it again"))


def write_items(source: LogSource, form: ItemFormat, keep: np.ndarray, counts: np.ndarray, file: Path) -> None:
    """Writes the kept rows of all tables as one: ``item_id``, ``count`` and the other columns, batch by batch.

    Args:
        source: the logs.
        form: where the tables are.
        keep: which rows stay, bool ``[rows]``.
        counts: interactions of each row, int64 ``[rows]``.
        file: to write.

    Raises:
        UserError: a table has other columns than the first.
    """
    writer: pq.ParquetWriter | None = None
    first = 0
    try:
        for name, batch in _batches(source, form):
            here = slice(first, first + len(batch))
            table = _with_counts(pa.table(batch), form, counts[here]).filter(pa.array(keep[here]))
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(_alike(table, writer.schema, source.place(name)))
            first = here.stop
    finally:
        if writer is not None:
            writer.close()


def _batches(source: LogSource, form: ItemFormat) -> Iterator[tuple[str, pa.RecordBatch]]:
    for name in item_tables(source, form):
        with open_table(source, name) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                yield name, batch


def _with_counts(table: pa.Table, form: ItemFormat, counts: np.ndarray) -> pa.Table:
    ids = table[form.id]
    whole = pa.types.is_integer(ids.type)
    extra = table.drop_columns([name for name in table.column_names if name in (form.id, "item_id", "count")])
    ids = pc.cast(ids, pa.int64() if whole else pa.large_string())
    return extra.add_column(0, "count", pa.array(counts)).add_column(0, "item_id", ids)


def _alike(table: pa.Table, schema: pa.Schema, place: str) -> pa.Table:
    try:
        return table.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowException) as error:
        raise UserError(
            one_line(f"{place} has other columns than the tables before it ({error}); store all alike")
        ) from error
