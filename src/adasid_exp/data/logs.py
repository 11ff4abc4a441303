"""Sharded logs: a folder of raw events, tables of items and embedding shards."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from adasid_exp.artifacts.store import signature_of
from adasid_exp.data.engines import Engine
from adasid_exp.data.log_edges import LogWindows
from adasid_exp.data.log_events import EventFormat
from adasid_exp.data.log_items import ItemFormat, item_tables
from adasid_exp.data.log_prepare import Preparation
from adasid_exp.data.log_source import LogSource
from adasid_exp.data.log_survey import Survey, survey_events
from adasid_exp.data.pieces import wants_bar
from adasid_exp.data.policy import BadRows
from adasid_exp.data.raw import Reader

VERSION = 1
"""Raised when the preparation changes what it makes; part of the fingerprint."""
READ_BYTES, SORT_BYTES = 256, 128
"""Memory that a row takes at most while shards are read, and while a partition is sorted."""
SMALL = 1 << 20
"""Rows that lie in the processor's caches: larger pieces only where there would be too many of them."""
MOST_READS, MOST_PARTITIONS = 1024, 256


class Logs(Reader):
    """Reads raw logs (docs/logs.md) in memory that does not grow with them.

    Args:
        root: path or URL of the folder.
        events: how to read the shards of events.
        items: how to read the tables of items and the embeddings.
        windows: when validation and test begin.
        keep: most interactions of a user that are kept, the last ones.
        on_bad_row: "error" stops at the first bad row or shard, "skip" leaves them out and counts them.
        memory_gib: that a process may take; decides how many rows are read and sorted at once.
        partitions: of the users; None: as many as the memory asks for.
        engine: runs the pieces.
        progress: whether to draw bars; "auto": on a terminal only.
    """

    def __init__(
        self,
        *,
        root: str,
        events: EventFormat,
        items: ItemFormat,
        windows: LogWindows,
        keep: int,
        on_bad_row: str,
        memory_gib: float,
        partitions: int | None,
        engine: Engine,
        progress: bool | str,
    ) -> None:
        BadRows(on_bad_row)
        self.root, self.events, self.items, self.windows = root, events, items, windows
        self.keep, self.on_bad_row, self.engine = keep, on_bad_row, engine
        self.memory = int(memory_gib * 2**30 / 2)  # the other half: libraries, buffers, files mapped
        self.wanted_partitions = partitions
        self.bar = wants_bar(progress)

    @cached_property
    def source(self) -> LogSource:
        """The folder."""
        return LogSource(root=str(self.root))

    @cached_property
    def surveyed(self) -> tuple[Survey, dict[str, int]]:
        """The shards that can be read, and what was left out."""
        bad = BadRows(self.on_bad_row)
        return survey_events(self.source, self.events, bad), bad.skipped

    @property
    def rows_at_once(self) -> int:
        """Rows that are read at once."""
        return max(1, min(self.memory // READ_BYTES, max(SMALL, self.surveyed[0].rows // MOST_READS)))

    @property
    def partitions(self) -> int:
        """Into how many parts the users are divided."""
        rows = self.surveyed[0].rows
        most = max(1, min(self.memory // SORT_BYTES, max(SMALL, rows // MOST_PARTITIONS)))
        return self.wanted_partitions or max(1, -(-rows // most))

    def fingerprint(self) -> dict[str, Any]:
        """Sampled digests of all files, the formats, and the number of partitions (not what decided it).

        Raises:
            UserError: there is nothing to read, or a shard cannot be read and the policy is to stop.
        """
        names = [shard.name for shard in self.surveyed[0].shards] + item_tables(self.source, self.items)
        if self.items.embeddings is not None:
            names += self.source.names(self.items.embeddings, ".npy")
        return {
            "reader": "logs",
            "version": VERSION,
            "files": signature_of({name: self.source.digest(name) for name in names}),
            "events": vars(self.events) | {"interactions": self.events.interactions and [*self.events.interactions]},
            "items": asdict(self.items),
            "windows": asdict(self.windows),
            "keep": self.keep,
            "on_bad_row": self.on_bad_row,
            "partitions": self.partitions,
        }

    def prepare(self, *, work: Path, out: Path, minimum_interactions: int) -> dict[str, Any]:
        """Makes `PreparedLogs` in ``out``; what ``work`` holds of an interrupted run is used.

        Raises:
            UserError: something cannot be read and the policy is to stop; nothing is left.
        """
        survey, skipped = self.surveyed
        preparation = Preparation(
            root=str(self.root),
            events=self.events,
            items=self.items,
            survey=survey,
            on_bad_row=self.on_bad_row,
            rows_at_once=self.rows_at_once,
            partitions=self.partitions,
            minimum=minimum_interactions,
            keep=self.keep,
            engine=self.engine,
            bar=self.bar,
            work=work,
        )
        return preparation.run(out, self.windows, skipped)
