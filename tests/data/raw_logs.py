"""Raw logs on disk, small and odd, the reader's arguments, and the whole preparation once more in plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.artifacts.prepared_logs import PreparedLogs
from adasid_exp.data.engines import Local
from adasid_exp.data.log_edges import LogWindows
from adasid_exp.data.log_events import EventFormat
from adasid_exp.data.log_items import ItemFormat
from adasid_exp.data.logs import Logs

HOUR = 3600
START = 1_700_000_000 // HOUR * HOUR
FORM: dict[str, Any] = {
    "folder": "events",
    "user": "user_id",
    "item": "item_id",
    "timestamp": "timestamp",
    "event": "event",
    "label": "label",
    "interactions": ["click", "play"],
    "ticks_per_second": 1,
    "since": "2000-01-01",
    "until": "2100-01-01",
    "lateness": None,
}
WINDOWS = {"test_share": 0.2, "validation_share": 0.2, "count_days": 2}


def reader(root: Path | str, *, form: dict[str, Any] | None = None, **changed: Any) -> Logs:
    """A reader of ``root`` with tiny memory: rows are read a few hundred at a time."""
    arguments: dict[str, Any] = {
        "root": str(root),
        "events": EventFormat(**(FORM | (form or {}))),
        "items": ItemFormat(folder="items", id="item_id", embeddings="embeddings"),
        "windows": LogWindows(**WINDOWS),
        "keep": 8,
        "on_bad_row": "error",
        "memory_gib": 2 * 300 * 256 / 2**30,
        "partitions": 3,
        "engine": Local(workers=1),
        "progress": False,
    }
    return Logs(**(arguments | changed))


def prepared(logs: Logs, folder: Path, minimum: int = 0) -> PreparedLogs:
    """Runs a preparation in ``folder``."""
    work, out = folder / "work", folder / "out"
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir()
    logs.prepare(work=work, out=out, minimum_interactions=minimum)
    return PreparedLogs.load(out)


def random_events(seed: int, rows: int, *, users: int, items: int, days: int = 6) -> pl.DataFrame:
    """Events with many ties in time, repeats, few and much used items, out of order within and across shards."""
    generator = np.random.default_rng(seed)
    event = generator.choice(["click", "play", "skip", "scroll"], size=rows, p=[0.4, 0.2, 0.3, 0.1])
    label = np.select([event == "click", event == "skip"], [1.0, 0.0], np.nan)
    drifting = np.arange(rows) * days * 24 // rows + generator.integers(-6, 7, size=rows)
    frame = pl.DataFrame(
        {
            "user_id": (users * generator.random(rows) ** 2).astype(np.int64) * 31 + 5,
            "item_id": (items * generator.random(rows) ** 2).astype(np.int64) * 7 + 3,
            "timestamp": START + HOUR * drifting.clip(0) + generator.integers(0, 4, size=rows),
            "event": event,
            "label": pl.Series(label).fill_nan(None).cast(pl.Int8),
            "scene": generator.integers(0, 9, size=rows),
        }
    )
    again = generator.integers(rows, size=rows // 10)
    order = np.sort(np.concatenate([np.arange(rows), again, again[: rows // 50]]))
    return frame[order]


def write_raw(root: Path, events: pl.DataFrame, *, shards: int, items: int, groups: int = 90) -> Path:
    """Shards of events with small row groups, two tables of items, two embedding shards of other lengths."""
    edges = np.linspace(0, len(events), shards + 1).astype(int)
    (root / "events").mkdir(parents=True)
    for number, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        events[first:last].write_parquet(root / f"events/part-{number:03d}.parquet", row_group_size=groups)
    ids = np.random.default_rng(1).permutation(items) * 7 + 3
    table = pl.DataFrame({"item_id": ids, "title": [f"item {number}" for number in ids], "count": ids})
    if events.schema["item_id"] == pl.String:
        table = table.with_columns(pl.format("i{}", "item_id").alias("item_id"))
    (root / "items").mkdir()
    table[: items // 3].write_parquet(root / "items/a.parquet")
    table[items // 3 :].write_parquet(root / "items/b.parquet")
    (root / "embeddings/text").mkdir(parents=True)
    vectors = np.stack([ids, -ids], axis=1).astype(np.float32)
    np.save(root / "embeddings/text/0.npy", vectors[: items // 2])
    np.save(root / "embeddings/text/1.npy", vectors[items // 2 :])
    return root


@dataclass(frozen=True)
class Expected:
    """What prepared logs should say, by raw ids."""

    items: list[Any]
    counts: dict[Any, int]
    histories: dict[Any, list[tuple[int, Any]]]
    impressions: dict[Any, list[tuple[int, Any, int, int, list[Any]]]]
    windows: dict[str, int | None]


def expected(rows: list[dict[str, Any]], items: list[Any], *, minimum: int, keep: int) -> Expected:
    """The whole preparation, with lists and dictionaries, written from its description (docs/logs.md).

    Args:
        rows: events in the order of the shards.
        items: ids in the order of the tables.
        minimum, keep: as for the preparation, whose `WINDOWS` these are.
    """
    known = set(items)
    rows = [row for row in rows if row["item_id"] in known]
    taken = _once(row for row in rows if row["event"] in ("click", "play"))
    shown = _once(row for row in rows if row["label"] is not None)
    users = {row["user_id"] for row in taken + shown}
    alive = set(items)
    while minimum:
        by_user = Counter(row["user_id"] for row in taken)
        by_item = Counter(row["item_id"] for row in taken)
        fewer = [r for r in taken if by_user[r["user_id"]] >= minimum and by_item[r["item_id"]] >= minimum]
        if len(fewer) == len(taken):
            users, alive = set(by_user), set(by_item)
            break
        taken = fewer
    shown = [row for row in shown if row["user_id"] in users and row["item_id"] in alive]
    windows = _windows([row["timestamp"] for row in shown])
    recent: Counter[Any] = Counter()
    if windows["test_start"] is not None:
        recent.update(r["item_id"] for r in taken if windows["count_start"] <= r["timestamp"] < windows["test_start"])
    histories, impressions = {}, {}
    for user in users:
        own = sorted((r for r in taken if r["user_id"] == user), key=lambda r: r["timestamp"])[-keep:]
        histories[user] = [(r["timestamp"], r["item_id"]) for r in own]
        impressions[user] = [
            (
                r["timestamp"],
                r["item_id"],
                int(r["label"]),
                recent[r["item_id"]],
                [h["item_id"] for h in own if h["timestamp"] < r["timestamp"]],
            )
            for r in sorted((r for r in shown if r["user_id"] == user), key=lambda r: r["timestamp"])
        ]
    counts = Counter(row["item_id"] for row in taken)
    kept = [item for item in items if item in alive]
    return Expected(kept, {item: counts[item] for item in kept}, histories, impressions, windows)


def _once(rows: Any) -> list[dict[str, Any]]:
    first: dict[Any, dict[str, Any]] = {}
    for row in rows:
        first.setdefault((row["user_id"], row["item_id"], row["timestamp"]), row)
    return list(first.values())


def _windows(times: list[int]) -> dict[str, int | None]:
    """The latest hour that leaves at least the share behind it."""

    def latest(times: list[int], share: float) -> int:
        hours = sorted({time // HOUR * HOUR for time in times}, reverse=True)
        return next(hour for hour in hours if sum(t >= hour for t in times) >= share * len(times))

    if not times:
        return dict.fromkeys(("count_start", "validation_start", "test_start"))
    test = latest(times, WINDOWS["test_share"])
    before = [time for time in times if time < test]
    validation = latest(before, WINDOWS["validation_share"]) if before else test
    return {
        "count_start": test - 24 * HOUR * int(WINDOWS["count_days"]),
        "validation_start": validation,
        "test_start": test,
    }


def found(logs: PreparedLogs) -> Expected:
    """What prepared logs do say, in the same words."""
    items = logs.catalogue().collect()["item_id"].to_list()
    histories, impressions = {}, {}
    for part in logs.partitions:
        users = part.user_ids().to_list()
        assert users == sorted(users)
        for local, user in enumerate(users):
            here = slice(part.offsets[local], part.offsets[local + 1])
            own = [items[i] for i in part.item[here]]
            histories[user] = list(zip(part.timestamp[here].tolist(), own, strict=True))
            impressions[user] = [
                (
                    int(part.impression_timestamp[i]),
                    items[part.impression_item[i]],
                    int(part.label[i]),
                    int(part.impression_count[i]),
                    own[: int(part.history_end[i]) - int(part.offsets[local])],
                )
                for i in np.flatnonzero(part.impression_user == local)
            ]
    counts = dict(zip(items, logs.counts().tolist(), strict=True))
    return Expected(items, counts, histories, impressions, dict(logs.about["windows"]))
