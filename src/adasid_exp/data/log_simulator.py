"""Simulated logs: shards of events, tables of items and embeddings, each made apart and in constant memory.

A shard holds a slice of time, in the order of time. Its random numbers follow from the seed and its number alone,
so the bytes of a file depend neither on which files were made before nor on how many are made at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from adasid_exp.artifacts.files import link
from adasid_exp.data.engines import Engine
from adasid_exp.data.log_order import by_group
from adasid_exp.data.log_source import MANIFEST
from adasid_exp.data.log_world import DAY, GROUP, LATENT, LogWorld, hashed, raw_id
from adasid_exp.data.pieces import Piece, finish_all

START = 1_704_067_200  # 1 January 2024, unix seconds
EVENTS = ("skip", "click", "play")
"""Shown and not taken, shown and taken, taken without being shown."""
BOT_LENGTH = 50
NEAR, FRESH, ALIKE = 0.5, 0.7, 0.9
"""Shares, summed up, of items of the session's group, of new ones, of others of its class; the rest is anything."""
NOISE = 0.3
"""Of a modality, beside the unit latent."""


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """Sittings of users.

    Attributes:
        user: ``users`` and above are bots, int64 ``[sessions]``.
        start: seconds after the beginning of the logs, float64.
        group: class the user looks at, int64.
        anchor: place in the class around which she looks, int64.
        length: events, int64.
    """

    user: np.ndarray
    start: np.ndarray
    group: np.ndarray
    anchor: np.ndarray
    length: np.ndarray


def draw_sessions(world: LogWorld, generator: np.random.Generator, begin: float, end: float, rows: int) -> Sessions:
    """Sessions that start between two moments, with ``rows`` events in all."""
    mean = world.session_length * (1 + world.bot_sessions * (BOT_LENGTH - 1))
    count = int(1.2 * rows / mean) + 100
    bot = generator.random(count) < world.bot_sessions
    length = generator.geometric(1 / world.session_length, count) * np.where(bot, BOT_LENGTH, 1)
    length = np.diff(np.minimum(np.cumsum(length), rows), prepend=0)
    length[-1] += rows - length.sum()
    user = (world.users * generator.random(count) ** 2).astype(np.int64)  # few users do much
    user = np.where(bot, world.users + user % max(1, world.users // 1000), user)
    start = begin + (end - begin) * generator.random(count)
    which = generator.random(count)
    group = generator.integers(world.classes, size=count)
    group = np.where(which < 0.8, world.passing_class(user, start), group)
    group = np.where(which < 0.5, world.lasting_class(user), group)
    anchor = world.draw_places(generator, world.released(start))
    return Sessions(user=user, start=start, group=group, anchor=anchor, length=length)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Events, by time.

    Attributes:
        user, item: numbers, int64 ``[rows]``.
        second: after the beginning of the logs, int64.
        event: index into `EVENTS`, int8.
    """

    user: np.ndarray
    item: np.ndarray
    second: np.ndarray
    event: np.ndarray


def draw_events(world: LogWorld, shard: int, shards: int, rows: int) -> Drawn:
    """The events of shard ``shard`` of ``shards``."""
    generator = world.generator("events", shard)
    begin, end = (world.days * DAY * edge / shards for edge in (shard, shard + 1))
    twice = int(rows * world.repeated)
    sessions = draw_sessions(world, generator, begin, end, rows - twice)
    session = np.repeat(np.arange(len(sessions.user)), sessions.length)
    user = sessions.user[session]
    item = _items(world, generator, sessions, session)
    second = _seconds(world, generator, sessions, session)
    event = _outcomes(world, generator, user, item, second)
    copies = 1 + np.bincount(generator.integers(rows - twice, size=twice), minlength=rows - twice)
    order = by_group((second - int(begin)).astype(np.int32), int(second.max() - int(begin)) + 1)[1]
    order = np.repeat(order, copies[order])
    return Drawn(user=user[order], item=item[order], second=second[order], event=event[order])


def _items(world: LogWorld, generator: np.random.Generator, sessions: Sessions, session: np.ndarray) -> np.ndarray:
    """Rows of the catalogue; a bot takes anything."""
    rows = len(session)
    released = world.released(sessions.start)[session]
    kind = generator.random(rows)
    kind[sessions.user[session] >= world.users] = 1.0
    group = np.where(kind < ALIKE, sessions.group[session], generator.integers(world.classes, size=rows))
    near = sessions.anchor[session] // GROUP * GROUP + generator.integers(GROUP, size=rows)
    fresh = released - generator.geometric(1 / 20, size=rows)
    place = np.where(kind < NEAR, near, fresh)
    anywhere = np.flatnonzero(kind >= FRESH)
    place[anywhere] = world.draw_places(generator, released[anywhere])
    return world.item_at(group, np.clip(place, 0, released - 1))


def _seconds(world: LogWorld, generator: np.random.Generator, sessions: Sessions, session: np.ndarray) -> np.ndarray:
    """Moments within a session, 40 s apart on average; a bot needs one."""
    pause = generator.exponential(40.0, size=len(session))
    pause[sessions.user[session] >= world.users] /= 40.0
    total = np.cumsum(pause)
    first = np.cumsum(sessions.length) - sessions.length
    since = total - total[np.minimum(first, len(total) - 1)][session]
    return (sessions.start[session] + since).astype(np.int64)


def _outcomes(
    world: LogWorld, generator: np.random.Generator, user: np.ndarray, item: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Index into `EVENTS`; what is shown is taken the likelier the better it fits the user."""
    event = np.full(len(user), EVENTS.index("play"), dtype=np.int8)
    shown = np.flatnonzero(generator.random(len(user)) < world.shown)
    user, item, second = user[shown], item[shown], second[shown]
    group = world.place_of(item)[0]
    liking = 2.0 * (group == world.lasting_class(user)) + 1.0 * (group == world.passing_class(user, second))
    liking += 1.5 * world.quality(item) + 1.5 * world.fondness(user, item) - 1.5
    event[shown] = generator.logistic(size=len(shown)) < liking
    return event


@dataclass(frozen=True, kw_only=True)
class EventShard(Piece):
    """One shard of events, ``shard.parquet``."""

    world: LogWorld
    shard: int
    shards: int

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        drawn = draw_events(self.world, self.shard, self.shards, self.rows)
        label = pa.array(drawn.event, mask=drawn.event == EVENTS.index("play"))
        event = pa.DictionaryArray.from_arrays(pa.array(drawn.event), pa.array(EVENTS))
        columns = {"user_id": raw_id(drawn.user), "item_id": raw_id(drawn.item), "timestamp": START + drawn.second}
        write_shard(pa.table({**columns, "event": event, "label": label}), folder / "shard.parquet")
        return {"rows": self.rows}


def write_shard(table: pa.Table, file: Path) -> None:
    """A shard with checksums, so that damage is found when it is read."""
    pq.write_table(
        table, file, compression="lz4", use_dictionary=["event"], row_group_size=1 << 18, write_page_checksum=True
    )


@dataclass(frozen=True, kw_only=True)
class ItemShard(Piece):
    """Some items: ``items.parquet``, ``text.npy`` and ``vision.npy``."""

    world: LogWorld
    first: int
    text: int
    vision: int

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        item = np.arange(self.first, self.first + self.rows)
        group, place = self.world.place_of(item)
        frame = pl.DataFrame({"item_id": raw_id(item), "class": group, "place": place}).select(
            "item_id",
            pl.format("Item {} of class {}, group {}", "place", "class", pl.col("place") // GROUP).alias("title"),
            "class",
        )
        frame.write_parquet(folder / "items.parquet")
        latent = latents(self.world, item)
        for name, dim in (("text", self.text), ("vision", self.vision)):
            np.save(folder / f"{name}.npy", view(self.world, name, dim, latent, self.first))
        return {}


def latents(world: LogWorld, item: np.ndarray) -> np.ndarray:
    """What the modalities see of items: class, group, quality, float64 ``[items, 16]``, about unit norm."""
    group, place = world.place_of(item)
    centers = world.generator("centers", 0).normal(size=(world.classes, LATENT)) / np.sqrt(LATENT)
    team = group * world.places + place // GROUP
    own = hashed(team[:, None] * LATENT + np.arange(LATENT), world.seed + 5)
    own = (own >> np.uint64(11)) * (2.0 / (1 << 53)) - 1.0
    vectors = centers[group] + 0.3 * own
    vectors[:, 0] += 0.3 * world.quality(item)
    return vectors


def view(world: LogWorld, name: str, dim: int, latent: np.ndarray, number: int) -> np.ndarray:
    """A modality: a random map of the latent with noise of its own, float16 ``[items, dim]``."""
    mixing = world.generator(f"{name} map", 0).normal(size=(LATENT, dim))
    noise = world.generator(f"{name} noise", number).normal(size=(len(latent), dim))
    return (latent @ mixing + NOISE * noise).astype(np.float16)


@dataclass(frozen=True, kw_only=True)
class LogSimulator:
    """Writes logs of any size.

    Attributes:
        world: what is simulated.
        events: rows in all.
        events_per_shard: rows of a shard.
        items_per_shard: rows of a table of items and of an embedding shard.
        text, vision: widths of the modalities.
        engine: makes the shards.
    """

    world: LogWorld
    events: int
    events_per_shard: int
    items_per_shard: int
    text: int
    vision: int
    engine: Engine

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the bytes."""
        own = {name: value for name, value in vars(self).items() if name not in ("world", "engine")}
        return own | {"world": vars(self.world)}

    def write(self, *, work: Path, out: Path, bar: bool) -> dict[str, Any]:
        """Makes ``events/``, ``items/``, ``embeddings/`` and the list of shards; goes on from what ``work`` holds."""
        shards, items = self._event_shards(work), self._item_shards(work)
        finish_all(self.engine, "items", items, bar=bar)
        finish_all(self.engine, "events", shards, bar=bar)
        for piece in shards:
            link(piece.folder / "shard.parquet", out / "events" / f"{piece.folder.name}.parquet")
        for part in items:
            link(part.folder / "items.parquet", out / "items" / f"{part.folder.name}.parquet")
            for modality in ("text", "vision"):
                link(part.folder / f"{modality}.npy", out / "embeddings" / modality / f"{part.folder.name}.npy")
        listed = {f"events/{piece.folder.name}.parquet": piece.rows for piece in shards}
        (out / MANIFEST).write_text(json.dumps(listed, indent=1), encoding="utf-8")
        return {"events": self.events, "items": self.world.items, "shards": len(shards)}

    def _event_shards(self, work: Path) -> list[EventShard]:
        shards = max(1, -(-self.events // self.events_per_shard))
        edges = np.arange(shards + 1) * self.events // shards
        return [
            EventShard(
                folder=work / "events" / f"{number:06d}",
                rows=int(edges[number + 1] - edges[number]),
                world=self.world,
                shard=number,
                shards=shards,
            )
            for number in range(shards)
        ]

    def _item_shards(self, work: Path) -> list[ItemShard]:
        return [
            ItemShard(
                folder=work / "items" / f"{number:06d}",
                rows=min(self.items_per_shard, self.world.items - first),
                world=self.world,
                first=first,
                text=self.text,
                vision=self.vision,
            )
            for number, first in enumerate(range(0, self.world.items, self.items_per_shard))
        ]
