"""Simulated logs: the same bytes however they are made, and the structure that was planted can be found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from raw_logs import prepared, reader

from adasid_exp.artifacts.store import file_digest
from adasid_exp.data.engines import Engine, Local
from adasid_exp.data.log_simulator import BOT_LENGTH, START, LogSimulator, draw_events
from adasid_exp.data.log_world import DAY, GROUP, LogWorld, raw_id

WORLD = LogWorld(
    users=3000, items=4000, classes=20, days=60, zipf_exponent=1.05, new_items=0.3, session_length=8.0,
    drift_days=20, bot_sessions=0.002, shown=0.6, repeated=0.01, seed=3,
)  # fmt: skip
EVENTS = 120_000


def simulator(engine: Engine, **changed) -> LogSimulator:
    sizes = {"events": EVENTS, "events_per_shard": 30_000, "items_per_shard": 1500, "text": 32, "vision": 24}
    return LogSimulator(**({"world": WORLD, "engine": engine} | sizes | changed))


class Backwards(Engine):
    """Last job first."""

    def map(self, work: Callable, jobs):
        for job in reversed(jobs):
            work(job)
            yield job


def write(folder: Path, engine: Engine, **changed) -> Path:
    out = folder / "out"
    out.mkdir(parents=True)
    simulator(engine, **changed).write(work=folder / "work", out=out, bar=False)
    return out


def digests(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("logs"), Local(workers=1))


@pytest.fixture(scope="module")
def events(raw: Path) -> pl.DataFrame:
    """All events, with the numbers behind the ids."""
    number = pl.DataFrame({"id": raw_id(np.arange(6000))}).with_row_index("number").cast({"number": pl.Int64})
    frame = pl.read_parquet(raw / "events/*.parquet")
    for name in ("user", "item"):
        frame = frame.join(number.rename({"number": name}), left_on=f"{name}_id", right_on="id", maintain_order="left")
    return frame.with_columns((pl.col("timestamp") - START).alias("second"), pl.col("event").cast(pl.String))


def test_the_bytes_do_not_depend_on_the_order_nor_on_a_stop(raw: Path, tmp_path: Path) -> None:
    assert digests(write(tmp_path / "backwards", Backwards())) == digests(raw)
    work = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        write(work, Stopping())
    out = work / "again"
    out.mkdir()
    simulator(Local(workers=1)).write(work=work / "work", out=out, bar=False)
    assert digests(out) == digests(raw)


class Stopping(Engine):
    """Half of the jobs."""

    def map(self, work: Callable, jobs):
        for job in jobs[: len(jobs) // 2]:
            work(job)
            yield job
        raise KeyboardInterrupt


def test_the_seed_changes_them(raw: Path, tmp_path: Path) -> None:
    other = digests(write(tmp_path, Local(workers=1), world=replace(WORLD, seed=4)))
    same = {name for name, digest in digests(raw).items() if other[name] == digest}
    assert same == {"shards.json"} | {name for name in other if name.startswith("items/")}


def test_a_shard_is_the_same_in_longer_logs(raw: Path) -> None:
    """Constant memory: a shard follows from its number and its slice of time, not from those before it."""
    drawn = draw_events(WORLD, 2, 4, EVENTS // 4)
    frame = pl.read_parquet(raw / "events/000002.parquet")
    np.testing.assert_array_equal(raw_id(drawn.item), frame["item_id"].to_numpy())


def test_shards_hold_their_slice_in_the_order_of_time(raw: Path) -> None:
    listed = json.loads((raw / "shards.json").read_text())
    assert sum(listed.values()) == EVENTS
    for number, name in enumerate(sorted(listed)):
        second = pl.read_parquet(raw / name)["timestamp"].to_numpy() - START
        assert len(second) == listed[name]
        assert (np.diff(second) >= 0).all()
        assert number * 15 * DAY <= second[0] < second[len(second) * 9 // 10] < (number + 1) * 15 * DAY


def test_places_and_items_are_each_others_inverse() -> None:
    item = np.arange(WORLD.items)
    group, place = WORLD.place_of(item)
    np.testing.assert_array_equal(WORLD.item_at(group, place), item)
    assert len(np.unique(raw_id(item))) == WORLD.items


def test_popularity_follows_zipf_within_a_class() -> None:
    """Draws of 200 places against the probabilities of the law cut to whole places, to five standard deviations."""
    draws, size, power = 200_000, 200, 1 - WORLD.zipf_exponent
    place = WORLD.draw_places(np.random.default_rng(0), np.full(draws, size))
    edge = (np.arange(1, size + 2) ** power - 1) / ((size + 1) ** power - 1)
    wanted = draws * np.diff(edge)
    found = np.bincount(place, minlength=size)
    assert (np.abs(found - wanted) <= 5 * np.sqrt(wanted)).all()
    assert found[0] > 20 * found[100]


def test_new_items_appear_and_are_taken(events: pl.DataFrame) -> None:
    place = WORLD.place_of(events["item"].to_numpy())[1]
    second = events["second"].to_numpy()
    assert (place < WORLD.released(second) + 1).all()
    old = int(WORLD.places * (1 - WORLD.new_items))
    late = second > 45 * DAY
    assert (place[second < DAY] >= old).mean() < 0.01
    assert (place[late] >= old).mean() > 0.15  # a fifth of the draws is new, nine tenths of those not older than this


def test_tastes_drift(events: pl.DataFrame) -> None:
    """People look at the class they like these weeks, and less at the one they liked weeks ago."""
    people = events.filter(pl.col("user") < WORLD.users)
    user, second = people["user"].to_numpy(), people["second"].to_numpy()
    group = WORLD.place_of(people["item"].to_numpy())[0]
    lasting = WORLD.lasting_class(user)
    now, later = WORLD.passing_class(user, second), WORLD.passing_class(user, second + 20 * DAY)
    assert (group == lasting).mean() > 0.4
    apart = (now != later) & (lasting != now) & (lasting != later)
    assert (group == now)[apart].mean() > 4 * (group == later)[apart].mean()


def test_sessions_stay_in_a_group(events: pl.DataFrame) -> None:
    """Two neighbors in a user's sequence share a group of eight far more often than by popularity."""
    people = events.filter(pl.col("user") < WORLD.users).sort("user", "second", maintain_order=True)
    group, place = WORLD.place_of(people["item"].to_numpy())
    team = group * WORLD.places + place // GROUP
    user = people["user"].to_numpy()
    same = user[1:] == user[:-1]
    chance = (np.bincount(team) / len(team)).dot(np.bincount(team) / len(team))
    assert (team[1:] == team[:-1])[same].mean() > 5 * chance


def test_labels_follow_taste_quality_and_fondness(events: pl.DataFrame) -> None:
    """The planted score orders a taken and a passed-over item right in three of four pairs; chance is one half."""
    shown = events.filter(pl.col("label").is_not_null())
    assert shown["event"].unique().sort().to_list() == ["click", "skip"]
    assert abs(len(shown) / len(events) - WORLD.shown) < 0.02
    user, item = shown["user"].to_numpy(), shown["item"].to_numpy()
    group = WORLD.place_of(item)[0]
    score = 2.0 * (group == WORLD.lasting_class(user)) + 1.5 * WORLD.quality(item) + 1.5 * WORLD.fondness(user, item)
    label = shown["label"].to_numpy() == 1
    rank = np.argsort(np.argsort(score)) + 1
    pairs = label.sum() * (~label).sum()
    auc = (rank[label].sum() - label.sum() * (label.sum() + 1) / 2) / pairs
    assert auc > 0.75
    assert 0.3 < label.mean() < 0.6


def test_bots_are_few_fast_and_take_anything(events: pl.DataFrame) -> None:
    bots = events.filter(pl.col("user") >= WORLD.users)
    share = WORLD.bot_sessions * BOT_LENGTH
    assert 0.5 * share < len(bots) / len(events) < 1.5 * share / (1 + share)
    assert bots["user"].n_unique() <= 3
    classes = np.bincount(WORLD.place_of(bots["item"].to_numpy())[0], minlength=WORLD.classes)
    assert classes.min() > 0.6 * classes.mean()
    pause = bots.sort("user", "second")["second"].diff().median()
    assert pause is not None
    assert pause <= 2


def test_some_rows_come_twice(events: pl.DataFrame) -> None:
    again = events.select("user", "item", "second", "event").is_duplicated().sum() / 2
    assert again >= WORLD.repeated * EVENTS * 0.98


@pytest.mark.parametrize("modality", ["text", "vision"])
def test_embeddings_tell_class_and_group(raw: Path, modality: str) -> None:
    """The nearest neighbor of nearly every item is of its class, and more often than not of its group."""
    vectors = np.concatenate([np.load(f) for f in sorted((raw / "embeddings" / modality).glob("*.npy"))])[:1500]
    assert vectors.dtype == np.float16
    unit = vectors.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    group, place = WORLD.place_of(np.arange(len(unit)))
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -1)
    nearest = similarity.argmax(axis=1)
    assert (group[nearest] == group).mean() > 0.8
    same_team = (group[nearest] == group) & (place[nearest] // GROUP == place // GROUP)
    assert same_team.mean() > 20 * GROUP / WORLD.items


def test_the_preparation_reads_what_the_simulator_writes(raw: Path, tmp_path: Path) -> None:
    logs = prepared(reader(raw, keep=128, memory_gib=1, partitions=2), tmp_path)
    assert logs.items == WORLD.items
    assert logs.modalities == ("text", "vision")
    assert logs.about["skipped"] == {}
    frame = pl.read_parquet(raw / "events/*.parquet").filter(pl.col("event") != "skip")
    unique = frame.select("user_id", "item_id", "timestamp").unique()
    assert logs.about["statistics"]["interactions"] == unique.height
