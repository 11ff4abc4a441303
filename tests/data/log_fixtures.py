"""Small prepared logs, drawn at random, and their rows as plain lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from adasid_exp.artifacts.prepared_logs import (
    PartitionArrays,
    PreparedLogs,
    partition_name,
    save_embeddings,
    write_index,
)

ITEMS, DAYS = 50, 40
VALIDATION_START, TEST_START = 28, 34


@dataclass(frozen=True, kw_only=True)
class RawUser:
    """A user's interactions (item, tick) and impressions (item, tick, label), both by time."""

    interactions: list[tuple[int, int]]
    impressions: list[tuple[int, int, int]]


def draw_users(generator: np.random.Generator, sizes: list[int], longest: int = 60) -> list[list[RawUser]]:
    """Users of each partition: the first few are short, some have no impressions."""
    users = [[_draw(generator, longest) for _ in range(size)] for size in sizes]
    for length, user in enumerate(users[0][:4]):
        del user.interactions[length:]
    return users


def _draw(generator: np.random.Generator, longest: int) -> RawUser:
    rows = int(generator.integers(0, longest))
    seen = int(generator.integers(0, 30)) * int(generator.random() < 0.8)
    times, shown = (np.sort(generator.integers(0, DAYS, size=size)).tolist() for size in (rows, seen))
    return RawUser(
        interactions=[(int(generator.integers(ITEMS)), tick) for tick in times],
        impressions=[(int(generator.integers(ITEMS)), tick, int(generator.integers(2))) for tick in shown],
    )


def write_logs(folder: Path, users: list[list[RawUser]], windows: dict[str, int] | None = None) -> PreparedLogs:
    """Prepared logs of these users, one list a partition."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, some in enumerate(users):
        _arrays(some).save(folder / partition_name(number))
    generator = np.random.default_rng(3)
    for name, dim in (("text", 12), ("vision", 6)):
        vectors = generator.normal(size=(ITEMS, dim))
        save_embeddings(folder, name, [vectors[:20].astype(np.float32), vectors[20:].astype(np.float32)])
    ids = [f"i{item}" for item in range(ITEMS)]
    pl.DataFrame({"item_id": ids, "count": np.zeros(ITEMS, dtype=np.int64)}).write_parquet(folder / "items.parquet")
    chosen = windows or {"validation_start": VALIDATION_START, "test_start": TEST_START}
    shown = [label for some in users for user in some for _, _, label in user.impressions]
    statistics = {
        "interactions": sum(len(user.interactions) for some in users for user in some),
        "impressions": len(shown),
        "positive_impressions": sum(shown),
    }
    write_index(folder, facts={"windows": chosen, "statistics": statistics, "ticks_per_second": 1})
    return PreparedLogs.load(folder)


def _arrays(users: list[RawUser]) -> PartitionArrays:
    """By loops over users: plain, and independent of what is tested."""
    offsets = [0]
    rows: dict[str, list[int]] = {name: [] for name in ("user", "item", "time", "label", "end")}
    for number, user in enumerate(users):
        for item, tick, label in user.impressions:
            before = sum(time < tick for _, time in user.interactions)
            for name, value in zip(rows, (number, item, tick, label, offsets[-1] + before), strict=True):
                rows[name].append(value)
        offsets.append(offsets[-1] + len(user.interactions))
    return PartitionArrays(
        user_id=pl.Series("user_id", [f"u{number}" for number in range(len(users))], dtype=pl.String),
        offsets=np.array(offsets, dtype=np.int64),
        item=np.array([item for user in users for item, _ in user.interactions], dtype=np.int32),
        timestamp=np.array([tick for user in users for _, tick in user.interactions], dtype=np.int64),
        impression_user=np.array(rows["user"], dtype=np.int32),
        impression_item=np.array(rows["item"], dtype=np.int32),
        impression_timestamp=np.array(rows["time"], dtype=np.int64),
        impression_count=np.array([item * 3 + 1 for item in rows["item"]], dtype=np.int32),
        label=np.array(rows["label"], dtype=np.int8),
        history_end=np.array(rows["end"], dtype=np.int64),
    )
