"""Raw logs to prepared logs, in four passes over pieces that appear whole: an interrupted run goes on from those.

1. `log_spill`: a few shards at a time, rows dealt to partitions by the hash of the user;
2. `log_gather`: a partition at a time, rows by user and time, repeats dropped;
3. `log_core`: counts over all partitions, again and again until users and items have their minimum;
4. `log_finish`: a partition at a time, each user's last interactions, as they are published.

Where no minimum is asked for nobody is dropped, and 2 to 4 are one pass (`log_finish.Settle`).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.artifacts.files import appear, link
from adasid_exp.artifacts.prepared_logs import CATALOGUE, EMBEDDINGS, partition_name, write_index
from adasid_exp.data.engines import Engine
from adasid_exp.data.log_core import Census, add_counts
from adasid_exp.data.log_edges import LogWindows
from adasid_exp.data.log_embeddings import VECTORS, Vectors, survey_embeddings
from adasid_exp.data.log_events import EventFormat
from adasid_exp.data.log_finish import PARTITION, RECENT, Finish, Recent, Settle, Span, assemble
from adasid_exp.data.log_gather import Gather, Spilled
from adasid_exp.data.log_items import ItemFormat, open_catalogue, write_items
from adasid_exp.data.log_source import LogSource
from adasid_exp.data.log_spill import CatalogueIds, Spill, stretches
from adasid_exp.data.log_survey import Survey, cut
from adasid_exp.data.pieces import Piece, facts_in, finish_all
from adasid_exp.data.policy import BadRows, left_out
from adasid_exp.types import UserError


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One counting of everything.

    Attributes:
        alive: file of a bool array over the catalogue: the items that were counted.
        folders: of the pieces that hold the counts, one a partition.
    """

    alive: Path
    folders: list[Path]

    def totals(self) -> dict[str, int]:
        """``users, interactions, impressions``."""
        facts = [facts_in(folder) for folder in self.folders]
        return {name: sum(fact[name] for fact in facts) for name in ("users", "interactions", "impressions")}


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """One preparation.

    Attributes:
        root, events, items: the logs and how to read them.
        survey: the shards.
        on_bad_row: the policy.
        rows_at_once: most rows that are read at once.
        partitions: of the users.
        minimum: interactions that users and items need; 0 keeps all, items without any included.
        keep: most interactions of a user that are kept.
        engine: runs the pieces.
        bar: whether to show how far it is.
        work: where pieces go.
    """

    root: str
    events: EventFormat
    items: ItemFormat
    survey: Survey
    on_bad_row: str
    rows_at_once: int
    partitions: int
    minimum: int
    keep: int
    engine: Engine
    bar: bool
    work: Path

    def run(self, out: Path, windows: LogWindows, skipped: dict[str, int]) -> dict[str, Any]:
        """Makes `PreparedLogs` in ``out`` and returns what was found.

        Raises:
            UserError: something cannot be read and the policy is to stop; nothing is left.
        """
        read = self._read()
        last, rounds = self._core() if self.minimum else (self._everything(), 0)
        totals = last.totals()
        if not totals["interactions"]:
            raise UserError(
                f"{self.root}: no interaction is left with data.minimum_interactions={self.minimum}; lower it "
                "(0 keeps all) or see data.events.interactions"
            )
        hours, impressions = _hours(last.folders)
        edges = windows.edges(hours, impressions, self.events.ticks_per_second)
        totals |= self._partitions_to(out, last, Span(start=edges["count_start"], stop=edges["test_start"]))
        totals |= self._catalogue_to(out, last)
        lost = Counter(skipped) + Counter(read["skipped"]) + self._embeddings_to(out, last)
        facts = {
            "ticks_per_second": self.events.ticks_per_second,
            "keep": self.keep,
            "windows": edges,
            "statistics": totals | {"mean_length": totals["interactions"] / totals["users"]},
            "skipped": dict(lost),
            "notes": [*self._notes(read["repeated"], rounds), *left_out(lost)],
        }
        write_index(out, facts=facts)
        return {name: facts[name] for name in ("statistics", "skipped", "notes", "windows")}

    def _read(self) -> dict[str, Any]:
        """Passes 1 and 2; spills are deleted when every partition is gathered."""
        record = self.work / "gathered.json"
        if not record.is_file():
            ids, spills = self._ids(), self._spills()
            self._finish("reading items", [ids])
            self._finish("reading events", spills)
            sorts = self._sorts(spills)
            self._finish("sorting events", sorts)
            skipped, repeated = _sum("skipped", [ids, *spills]), _sum("repeated", sorts)
            text = json.dumps({"skipped": skipped, "repeated": repeated})
            appear(record, lambda path: path.write_text(text, encoding="utf-8"))
        shutil.rmtree(self.work / "dealt", ignore_errors=True)
        return json.loads(record.read_text(encoding="utf-8"))

    def _ids(self) -> CatalogueIds:
        return CatalogueIds(
            folder=self.work / "ids",
            rows=0,
            root=self.root,
            form=self.items,
            whole=self.survey.item_type == pl.Int64,
            on_bad_row=self.on_bad_row,
        )

    def _spills(self) -> list[Spill]:
        return [
            Spill(
                folder=self.work / "dealt" / f"{number:06d}",
                rows=sum(chunk.rows for chunk in chunks),
                root=self.root,
                form=self.events,
                chunks=chunks,
                catalogue=self.work / "ids",
                partitions=self.partitions,
                text_users=self.survey.user_type == pl.String,
                on_bad_row=self.on_bad_row,
            )
            for number, chunks in enumerate(cut(self.survey.shards, self.rows_at_once))
        ]

    def _sorts(self, spills: Sequence[Spill]) -> list[Gather] | list[Settle]:
        text = self.survey.user_type == pl.String
        found = stretches([spill.folder for spill in spills], self.partitions)
        spilled = [Spilled(partition=part, stretches=some, text_users=text) for part, some in enumerate(found)]
        if self.minimum:
            return [Gather(folder=self._sorted(some.partition), rows=some.rows, spilled=some) for some in spilled]
        return [
            Settle(
                folder=self._sorted(some.partition),
                rows=some.rows,
                spilled=some,
                catalogue=self.work / "ids",
                keep=self.keep,
                ticks_per_second=self.events.ticks_per_second,
            )
            for some in spilled
        ]

    def _sorted(self, number: int) -> Path:
        return self.work / ("gathered" if self.minimum else "settled") / partition_name(number)

    def _everything(self) -> Counted:
        """What `Settle` counted: all of it."""
        file = self.work / "alive.npy"
        appear(file, lambda path: np.save(path, open_catalogue(self.work / "ids").used))
        return Counted(alive=file, folders=[self._sorted(part) for part in range(self.partitions)])

    def _core(self) -> tuple[Counted, int]:
        """Pass 3: the last counting, after which nothing is taken out, and how many there were."""
        alive = open_catalogue(self.work / "ids").used
        for number in count():
            counted = self._count(number, alive)
            enough = alive & (add_counts(counted.folders, "items", len(alive)) >= self.minimum)
            if (enough == alive).all():
                return counted, number + 1
            alive = enough
        raise AssertionError

    def _count(self, number: int, alive: np.ndarray) -> Counted:
        file = self.work / f"alive-{number:03d}.npy"
        appear(file, lambda path: np.save(path, alive))
        pieces = [
            Census(
                folder=self.work / f"round-{number:03d}" / partition_name(part),
                rows=self._rows(part),
                part=self._sorted(part),
                alive=file,
                minimum=self.minimum,
                ticks_per_second=self.events.ticks_per_second,
            )
            for part in range(self.partitions)
        ]
        self._finish(f"counting, round {number + 1}", pieces)
        return Counted(alive=file, folders=[piece.folder for piece in pieces])

    def _rows(self, part: int) -> int:
        return len(np.load(self._sorted(part) / "item.npy", mmap_mode="r"))

    def _partitions_to(self, out: Path, last: Counted, counted: Span) -> dict[str, int]:
        """Pass 4; the counts of recent interactions are known only after its last piece."""
        pieces = self._finishes(last, counted) if self.minimum else self._recents(counted)
        self._finish("writing partitions", pieces)
        items = int(np.load(last.alive).sum())
        recent = add_counts([piece.folder for piece in pieces], RECENT, items).astype(np.int32)
        folders = [self._finished(part) for part in range(self.partitions)]
        for folder in folders:
            assemble(folder / PARTITION, out / folder.name, recent)
        return {"positive_impressions": sum(facts_in(folder)["positive"] for folder in folders)}

    def _finished(self, part: int) -> Path:
        return self.work / "finished" / partition_name(part) if self.minimum else self._sorted(part)

    def _finishes(self, last: Counted, counted: Span) -> list[Finish]:
        return [
            Finish(
                folder=self._finished(part),
                rows=self._rows(part),
                part=self._sorted(part),
                alive=last.alive,
                minimum=self.minimum,
                keep=self.keep,
                counted=counted,
            )
            for part in range(self.partitions)
        ]

    def _recents(self, counted: Span) -> list[Recent]:
        if counted.start is None:
            return []
        return [
            Recent(
                folder=self.work / "recent" / partition_name(part),
                rows=facts_in(self._sorted(part))["interactions"],
                settled=self._sorted(part),
                counted=counted,
            )
            for part in range(self.partitions)
        ]

    def _catalogue_to(self, out: Path, last: Counted) -> dict[str, int]:
        alive = np.load(last.alive)
        counts = add_counts(last.folders, "items", len(alive))
        write_items(LogSource(root=self.root), self.items, alive, counts, out / CATALOGUE)
        return {"items": int(alive.sum())}

    def _embeddings_to(self, out: Path, last: Counted) -> Counter[str]:
        """The embeddings of the items that stay; returns what was left out."""
        bad, rows = BadRows(self.on_bad_row), len(np.load(last.alive, mmap_mode="r"))
        pieces = [
            Vectors(
                folder=self.work / EMBEDDINGS / modality / f"{number:05d}",
                rows=shard.rows,
                root=self.root,
                shard=shard,
                alive=last.alive,
                on_bad_row=self.on_bad_row,
            )
            for modality, shards in survey_embeddings(LogSource(root=self.root), self.items, rows, bad).items()
            for number, shard in enumerate(shards)
        ]
        self._finish("copying embeddings", pieces)
        for piece in pieces:
            name = f"{piece.folder.name}.npy"
            link(piece.folder / VECTORS, out / EMBEDDINGS / piece.folder.parent.name / name)
        return Counter(bad.skipped) + _sum("skipped", pieces)

    def _notes(self, repeated: dict[str, int], rounds: int) -> list[str]:
        notes = [f"logs: {self.survey.rows:,} events in {len(self.survey.shards):,} shards"]
        notes += [f"{number:,} repeated {what} dropped" for what, number in repeated.items()]
        return [*notes, *([f"{self.minimum}-core filter: {rounds} rounds"] if self.minimum else [])]

    def _finish(self, title: str, pieces: Sequence[Piece]) -> None:
        finish_all(self.engine, title, pieces, bar=self.bar)


def _sum(name: str, pieces: Iterable[Piece]) -> Counter[str]:
    total: Counter[str] = Counter()
    for piece in pieces:
        total.update(piece.facts()[name])
    return total


def _hours(folders: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """The hours that hold impressions, ascending, and how many."""
    tables = np.concatenate([np.load(folder / "hours.npy") for folder in folders])
    hours, place = np.unique(tables[:, 0], return_inverse=True)
    counts = np.zeros(len(hours), dtype=np.int64)
    np.add.at(counts, place, tables[:, 1])
    return hours, counts
