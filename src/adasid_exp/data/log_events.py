"""Raw events: what a shard must look like, and one chunk of one shard as checked arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from adasid_exp.data.log_items import Catalogue
from adasid_exp.data.log_source import LogSource
from adasid_exp.data.policy import ROW, BadRows, Fault

UNLABELLED = -1
GROUP = "group"


class EventFormat:
    """How to read a shard of events.

    Args:
        folder: where the shards are, below the root.
        user, item, timestamp: names of the columns.
        event: column of the kind of event; None where all rows are of one kind.
        label: column of what was shown and taken (1) or not (0), null where nothing was shown; None without.
        interactions: events that make a history; None: all. A row with a label is an impression as well.
        ticks_per_second: of integer timestamps: 1 for unix seconds, 1000 for milliseconds.
        since, until: dates between which a timestamp is believed.
        lateness: seconds that a row may lie before one above it in its row group; None: rows in any order.
    """

    def __init__(
        self,
        *,
        folder: str,
        user: str,
        item: str,
        timestamp: str,
        event: str | None,
        label: str | None,
        interactions: Sequence[str] | None,
        ticks_per_second: int,
        since: str,
        until: str,
        lateness: int | None,
    ) -> None:
        self.folder, self.user, self.item, self.timestamp = folder, user, item, timestamp
        self.event, self.label = event, label
        self.interactions = None if interactions is None else tuple(interactions)
        self.ticks_per_second, self.since, self.until, self.lateness = ticks_per_second, since, until, lateness

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        optional = [name for name in (self.event, self.label) if name is not None]
        return [self.user, self.item, self.timestamp, *optional]

    def ticks(self, date: str) -> int:
        """A date (UTC) in ticks."""
        return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()) * self.ticks_per_second

    def select(self, schema: pl.Schema) -> list[pl.Expr]:
        """Columns ``user, item, timestamp, event, label`` in one type each, out of a shard's own."""
        label = pl.lit(None, dtype=pl.Int8) if self.label is None else pl.col(self.label).cast(pl.Float64, strict=False)
        return [
            pl.col(self.user).cast(id_type(schema[self.user]), strict=False).alias("user"),
            pl.col(self.item).cast(id_type(schema[self.item]), strict=False).alias("item"),
            self._time(schema[self.timestamp]).alias("timestamp"),
            self._is_interaction().alias("interaction"),
            label.alias("label"),
        ]

    def _time(self, dtype: pl.DataType) -> pl.Expr:
        if dtype.is_integer():
            return pl.col(self.timestamp).cast(pl.Int64, strict=False)
        return pl.col(self.timestamp).dt.epoch("us") * self.ticks_per_second // 1_000_000

    def _is_interaction(self) -> pl.Expr:
        if self.event is None or self.interactions is None:
            return pl.lit(value=True)
        return pl.col(self.event).cast(pl.String).is_in(list(self.interactions)).fill_null(value=False)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Row groups of one shard that are read at once.

    Attributes:
        name: of the shard.
        groups: numbers of the row groups, one after the other.
        group_rows: rows of each.
        first_row: rows of the shard above them.
    """

    name: str
    groups: tuple[int, ...]
    group_rows: tuple[int, ...]
    first_row: int

    @property
    def rows(self) -> int:
        """Rows in all."""
        return sum(self.group_rows)

    def split(self) -> list[Chunk]:
        """The row groups one by one."""
        starts = self.first_row + np.cumsum([0, *self.group_rows])
        return [
            Chunk(name=self.name, groups=(group,), group_rows=(rows,), first_row=int(start))
            for group, rows, start in zip(self.groups, self.group_rows, starts, strict=False)
        ]


@dataclass(frozen=True, kw_only=True)
class Events:
    """Checked events in the order they were read.

    Attributes:
        user: raw ids ``[rows]``.
        item: index in the table of items, int32 ``[rows]``.
        timestamp: in ticks, int64 ``[rows]``.
        interaction: whether the row makes history, bool ``[rows]``.
        label: 1, 0 or -1 (no impression), int8 ``[rows]``.
    """

    user: pl.Series
    item: np.ndarray
    timestamp: np.ndarray
    interaction: np.ndarray
    label: np.ndarray


def id_type(dtype: Any) -> Any:
    """int64 for integers, else text."""
    return pl.Int64 if dtype.is_integer() else pl.String


def read_chunk(source: LogSource, form: EventFormat, chunk: Chunk, catalogue: Catalogue, bad: BadRows) -> Events:
    """Events of a chunk that are interactions or impressions; bad rows are reported.

    Raises:
        UserError: a row is bad, or the shard cannot be read, and the policy is to stop.
    """
    try:
        frame = _read(source, form, chunk)
    except (OSError, pa.ArrowException) as error:
        if len(chunk.groups) > 1:  # one by one, so that only what is damaged is lost
            return joined([read_chunk(source, form, part, catalogue, bad) for part in chunk.split()])
        place, values = source.place(chunk.name), {"error": error, "first": chunk.first_row + 1}
        bad.report(file=place, row=chunk.first_row + 1, fault=UNREADABLE, values=values, more=chunk.rows - 1)
        return joined([])
    return _events(frame, source.place(chunk.name), form, catalogue, bad)


def joined(parts: Sequence[Events]) -> Events:
    """Events one after the other."""
    parts = [part for part in parts if len(part.user)]
    arrays = ("item", "timestamp", "interaction", "label")
    empty = Events(
        user=pl.Series(dtype=pl.Int64),
        item=np.zeros(0, np.int32),
        timestamp=np.zeros(0, np.int64),
        interaction=np.zeros(0, bool),
        label=np.zeros(0, np.int8),
    )
    if len(parts) < 2:
        return parts[0] if parts else empty
    return Events(
        user=pl.concat([part.user for part in parts]),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays},
    )


def _events(frame: pl.DataFrame, place: str, form: EventFormat, catalogue: Catalogue, bad: BadRows) -> Events:
    frame = _checked(frame, form, place, bad)
    used = frame.select(pl.col("interaction") | pl.col("label").is_not_null()).to_series()
    frame = frame if used.all() else frame.filter(used)
    frame = frame.with_columns(pl.Series("number", catalogue.index_of(frame["item"])))
    frame = bad.drop(frame, pl.col("number") < 0, file=place, fault=UNKNOWN_ITEM)
    return Events(
        user=frame["user"],
        item=frame["number"].to_numpy(),
        timestamp=frame["timestamp"].to_numpy(),
        interaction=frame["interaction"].to_numpy(),
        label=frame["label"].fill_null(UNLABELLED).cast(pl.Int8).to_numpy(),
    )


def _read(source: LogSource, form: EventFormat, chunk: Chunk) -> pl.DataFrame:
    """The columns in their types, with ``row`` and, where the order counts, ``group``."""
    with pq.ParquetFile(source.handle(chunk.name), page_checksum_verification=True) as file:
        table = file.read_row_groups(list(chunk.groups), columns=form.columns)
    frame = pl.from_arrow(table, rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    group = np.repeat(np.arange(len(chunk.groups), dtype=np.int32), chunk.group_rows)
    late = [pl.Series(GROUP, group)] if form.lateness is not None else []
    return frame.select(form.select(frame.schema)).with_row_index(ROW, offset=chunk.first_row + 1).with_columns(late)


def _checked(frame: pl.DataFrame, form: EventFormat, place: str, bad: BadRows) -> pl.DataFrame:
    """The rows that can be used; one look at all faults together, since as a rule there is none."""
    faults = list(_faults(frame, form))
    any_fault = pl.any_horizontal([expression.fill_null(value=False) for expression, _ in faults])
    if not frame.select(any_fault.any()).item():
        return frame
    for expression, fault in faults:
        frame = bad.drop(frame, expression, file=place, fault=fault)
    return frame


def _faults(frame: pl.DataFrame, form: EventFormat) -> list[tuple[pl.Expr, Fault]]:
    time, label = pl.col("timestamp"), pl.col("label")
    faults = [(_no_id(name, frame.schema[name]), _id_fault(name, frame.schema[name])) for name in ("user", "item")]
    faults += [
        (time.is_null(), NO_TIME),
        (~time.is_between(form.ticks(form.since), form.ticks(form.until), closed="left"), time_fault(form)),
        ((label != 0) & (label != 1), LABEL),
    ]
    if form.lateness is not None:
        latest = time.cum_max().over(GROUP)
        faults.append((latest - time > form.lateness * form.ticks_per_second, backwards_fault(form.lateness)))
    return faults


def _no_id(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    return column.is_null() | (column < 0 if dtype == pl.Int64 else column.str.len_bytes() == 0)


def _id_fault(name: str, dtype: pl.DataType) -> Fault:
    if dtype == pl.Int64:
        return Fault(
            reason=f"{name} id out of range",
            problem=f"{name} id {{{name}}} is missing or negative",
            remedy=f"give every event a {name} id from 0 up",
        )
    return Fault(
        reason=f"row without {name} id", problem=f"{name} id is missing", remedy=f"give every event a {name} id"
    )


def time_fault(form: EventFormat) -> Fault:
    """A timestamp before ``since`` or not before ``until``."""
    return Fault(
        reason="timestamp out of range",
        problem=f"timestamp {{timestamp}} lies outside {form.since} to {form.until} "
        f"({form.ticks_per_second} ticks a second)",
        remedy="mend the clock, set data.events.ticks_per_second or widen data.events.since and until",
    )


def backwards_fault(lateness: int) -> Fault:
    """A row too far behind one above it."""
    return Fault(
        reason="clock going backwards",
        problem=f"timestamp {{timestamp}} lies more than {lateness} s before a row above it",
        remedy="sort the shard by time or raise data.events.lateness (null: any order)",
    )


NO_TIME = Fault(reason="row without timestamp", problem="timestamp is missing", remedy="give every event its time")
LABEL = Fault(reason="label out of range", problem="label {label} is neither 0 nor 1", remedy="mend the label")
UNKNOWN_ITEM = Fault(
    reason="event with an item the catalogue lacks",
    problem="item id {item} is not in the table of items",
    remedy="add the item to the table or remove its events",
)
UNREADABLE = Fault(
    reason="row of an unreadable shard",
    problem="the shard cannot be read from row {first} on ({error})",
    remedy="write the shard again",
)
