"""What shards of events there are, from their footers alone, and how the work is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from adasid_exp.data.log_events import Chunk, EventFormat
from adasid_exp.data.log_source import MANIFEST, LogSource
from adasid_exp.data.policy import BadRows, Fault
from adasid_exp.types import UserError


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard of events.

    Attributes:
        name: below the root.
        group_rows: rows of each row group.
    """

    name: str
    group_rows: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows in all."""
        return sum(self.group_rows)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The shards that can be read.

    Attributes:
        shards: in the order of their names.
        item_type: int64 or text, of the items' ids.
        user_type: int64 or text, of the users' ids.
    """

    shards: tuple[Shard, ...]
    item_type: pl.DataType
    user_type: pl.DataType

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.rows for shard in self.shards)


def survey_events(source: LogSource, form: EventFormat, bad: BadRows) -> Survey:
    """Reads the footers; a shard that is missing, damaged or of another schema than the first is reported.

    Raises:
        UserError: there is no shard that can be read, or one cannot and the policy is to stop.
    """
    shards: list[Shard] = []
    kinds: dict[str, str] | None = None
    for name in _names(source, form):
        footer = _footer(source, name, bad)
        if footer is None:
            continue
        found = _kinds(form, footer.schema.to_arrow_schema())
        kinds = kinds or (found if _wrong(found) is None else None)
        if _fits(source, form, name, footer, found, kinds, bad):
            groups = range(footer.num_row_groups)
            shards.append(Shard(name=name, group_rows=tuple(footer.row_group(group).num_rows for group in groups)))
    if not shards or kinds is None:
        raise UserError(
            f"{source.place(form.folder)} holds no .parquet shard of events that can be read; set data.root to a "
            f"folder with {form.folder}/*.parquet (docs/logs.md says what is in them)"
        )
    return Survey(shards=tuple(shards), item_type=_type(kinds[form.item]), user_type=_type(kinds[form.user]))


def _type(kind: str) -> pl.DataType:
    return pl.Int64() if kind == "integers" else pl.String()


def _names(source: LogSource, form: EventFormat) -> list[str]:
    if source.manifest is None:
        return source.names(form.folder, ".parquet")
    return sorted(name for name in source.manifest if name.startswith(f"{form.folder}/"))


def _footer(source: LogSource, name: str, bad: BadRows) -> pq.FileMetaData | None:
    if not source.exists(name):
        values = {"manifest": MANIFEST}
        more = (source.manifest or {}).get(name, 1) - 1
        bad.report(file=source.place(name), row=None, fault=MISSING, values=values, more=more)
        return None
    try:
        footer = source.remembered(_read_footer, name)
    except (OSError, pa.ArrowException) as error:
        bad.report(file=source.place(name), row=None, fault=NO_FOOTER, values={"error": error})
        return None
    listed = (source.manifest or {}).get(name, footer.num_rows)
    if listed != footer.num_rows:
        values = {"rows": footer.num_rows, "listed": listed, "manifest": MANIFEST}
        bad.report(file=source.place(name), row=None, fault=OTHER_LENGTH, values=values, more=footer.num_rows - 1)
        return None
    return footer


def _read_footer(source: LogSource, name: str) -> pq.FileMetaData:
    with pq.ParquetFile(source.handle(name)) as file:
        return file.metadata


def _kinds(form: EventFormat, schema: pa.Schema) -> dict[str, str]:
    """What each column that is read holds."""
    allowed = {form.timestamp: ("integers", "times"), form.user: ("integers", "text"), form.item: ("integers", "text")}
    found = {}
    for name in form.columns:
        kind = _kind(schema.field(name).type) if name in schema.names else "nothing"
        wanted = allowed.get(name)
        found[name] = kind if wanted is None or kind in wanted else f"!{kind}"
    return found


def _kind(kind: pa.DataType) -> str:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_integer(kind):
        return "integers"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "times"
    return str(kind)


def _wrong(found: dict[str, str]) -> str | None:
    return next((name for name, kind in found.items() if kind.startswith("!") or kind == "nothing"), None)


def _fits(
    source: LogSource,
    form: EventFormat,
    name: str,
    footer: pq.FileMetaData,
    found: dict[str, str],
    kinds: dict[str, str] | None,
    bad: BadRows,
) -> bool:
    """Whether the shard's columns can be read and hold what those of the first shard do."""
    wanted = kinds or {}
    wrong = _wrong(found) or next((column for column in found if found[column] != wanted[column]), None)
    if wrong is None:
        return True
    usual = wanted.get(wrong) or ("integers or times" if wrong == form.timestamp else "integers or text")
    values = {"column": wrong, "found": found[wrong].removeprefix("!"), "wanted": usual}
    bad.report(file=source.place(name), row=None, fault=OTHER_SCHEMA, values=values, more=max(0, footer.num_rows - 1))
    return False


def cut(shards: Sequence[Shard], rows_at_once: int) -> list[tuple[Chunk, ...]]:
    """Row groups in order, dealt to pieces of at most so many rows; a larger row group is a piece of its own."""
    pieces: list[list[Chunk]] = [[]]
    room = rows_at_once
    for chunk in _groups(shards):
        if chunk.rows > room and pieces[-1]:
            pieces.append([])
            room = rows_at_once
        last = pieces[-1][-1] if pieces[-1] else None
        if last is not None and last.name == chunk.name:
            pieces[-1][-1] = _together(last, chunk)
        else:
            pieces[-1].append(chunk)
        room -= chunk.rows
    return [tuple(piece) for piece in pieces if piece]


def _groups(shards: Sequence[Shard]) -> Iterator[Chunk]:
    for shard in shards:
        groups = tuple(range(len(shard.group_rows)))
        yield from Chunk(name=shard.name, groups=groups, group_rows=shard.group_rows, first_row=0).split()


def _together(first: Chunk, second: Chunk) -> Chunk:
    return Chunk(
        name=first.name,
        groups=first.groups + second.groups,
        group_rows=first.group_rows + second.group_rows,
        first_row=first.first_row,
    )


MISSING = Fault(
    reason="row of a missing shard",
    problem="the shard is missing, although {manifest} lists it",
    remedy="bring it back or take it out of the list",
)
NO_FOOTER = Fault(
    reason="shard without a readable footer",
    problem="the shard is no readable Parquet file ({error})",
    remedy="write the shard again",
)
OTHER_LENGTH = Fault(
    reason="row of a shard of another length",
    problem="the shard holds {rows} rows, {manifest} lists {listed}",
    remedy="write the shard or the list again",
)
OTHER_SCHEMA = Fault(
    reason="row of a shard with another schema",
    problem="column {column} holds {found}, wanted {wanted}",
    remedy="store all shards alike or set the columns in data.events",
)
