"""Raw events to each user's last 128 against pandas and polars plans of equal work; memory at two sizes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.prepared_logs import PreparedLogs
from adasid_exp.data.engines import Local
from adasid_exp.data.log_edges import LogWindows
from adasid_exp.data.log_events import EventFormat
from adasid_exp.data.log_items import ItemFormat
from adasid_exp.data.log_simulator import LogSimulator
from adasid_exp.data.log_world import LogWorld
from adasid_exp.data.logs import Logs
from conftest import AtLeast, AtMost

EVENTS, KEEP = 4_000_000, 128
SMALL, LARGE = 2_000_000, 8_000_000
KEY = ["user_id", "item_id", "timestamp"]


def simulate(folder: Path, events: int) -> Path:
    """Logs of a fixed world in shards of a million events."""
    world = LogWorld(
        users=200_000, items=100_000, classes=100, days=90, zipf_exponent=1.05, new_items=0.3, session_length=8.0,
        drift_days=21, bot_sessions=0.0005, shown=0.6, repeated=0.002, seed=0,
    )  # fmt: skip
    (folder / "raw").mkdir(parents=True)
    simulator = LogSimulator(
        world=world,
        events=events,
        events_per_shard=1_000_000,
        items_per_shard=65_536,
        text=8,
        vision=8,
        engine=Local(workers=1),
    )
    simulator.write(work=folder / "work", out=folder / "raw", bar=False)
    shutil.rmtree(folder / "work")
    return folder / "raw"


def sessions_of(raw: Path, out: Path, memory_gib: float = 4.0) -> PreparedLogs:
    """All rows as interactions, no impressions, no embeddings: what the references make."""
    form = EventFormat(
        folder="events",
        user="user_id",
        item="item_id",
        timestamp="timestamp",
        event=None,
        label=None,
        interactions=None,
        ticks_per_second=1,
        since="2000-01-01",
        until="2100-01-01",
        lateness=None,
    )
    logs = Logs(
        root=str(raw),
        events=form,
        items=ItemFormat(folder="items", id="item_id", embeddings=None),
        windows=LogWindows(test_share=0.1, validation_share=0.1, count_days=30),
        keep=KEEP,
        on_bad_row="error",
        memory_gib=memory_gib,
        partitions=None,
        engine=Local(workers=1),
        progress=False,
    )
    for folder in (out / "work", out / "out"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    logs.prepare(work=out / "work", out=out / "out", minimum_interactions=0)
    return PreparedLogs.load(out / "out")


def polars_plan(raw: Path) -> pl.DataFrame:
    """Repeats dropped, dense items, the last of each user: ``sort_by`` inside ``agg``, streaming."""
    items = pl.scan_parquet(raw / "items/*.parquet").select("item_id").with_row_index("item")
    rows = pl.scan_parquet(raw / "events/*.parquet").select(KEY).unique(KEY).join(items, on="item_id")
    last = pl.col("item", "timestamp").sort_by("timestamp").tail(KEEP)
    return rows.group_by("user_id").agg(last).sort("user_id").collect(engine="streaming")


def bare_polars_plan(raw: Path) -> pl.DataFrame:
    """The same without dropping repeats, without dense items and in no order of users."""
    rows = pl.scan_parquet(raw / "events/*.parquet").select(KEY)
    last = pl.col("item_id", "timestamp").sort_by("timestamp").tail(KEEP)
    return rows.group_by("user_id").agg(last).collect(engine="streaming")


def pandas_plan(raw: Path):
    """The same as `polars_plan`: drop_duplicates, merge, sort, groupby tail, lists."""
    pd = pytest.importorskip("pandas")
    items = pd.concat([pd.read_parquet(f, columns=["item_id"]) for f in sorted((raw / "items").iterdir())])
    items = items.assign(item=np.arange(len(items)))
    rows = pd.concat([pd.read_parquet(f, columns=KEY) for f in sorted((raw / "events").iterdir())])
    rows = rows.drop_duplicates().merge(items, on="item_id").sort_values(["user_id", "timestamp"], kind="stable")
    return rows.groupby("user_id").tail(KEEP).groupby("user_id")[["item", "timestamp"]].agg(list)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return simulate(tmp_path_factory.mktemp("logs"), EVENTS)


def test_the_plans_agree(raw: Path, tmp_path: Path, compare) -> None:
    """Lengths of all histories and the times in them; and the cost against the polars plan."""
    logs, frame = sessions_of(raw, tmp_path), polars_plan(raw)
    lengths = np.concatenate([np.diff(part.offsets) for part in logs.partitions])
    users = pl.concat([part.user_ids() for part in logs.partitions])
    wanted = frame.with_columns(pl.col("item").list.len().alias("length"), pl.col("timestamp").list.sum())
    times = np.concatenate([np.add.reduceat(part.timestamp, part.offsets[:-1]) for part in logs.partitions])
    ours = pl.DataFrame({"user_id": users, "length": lengths, "timestamp": times}).sort("user_id")
    assert ours["length"].to_list() == wanted["length"].to_list()
    assert ours["timestamp"].to_list() == wanted["timestamp"].to_list()
    compare(
        "raw events to last 128",
        AtLeast(goal=1.4),
        ours=lambda: sessions_of(raw, tmp_path),
        reference=lambda: polars_plan(raw),
        against="polars streaming, equal work",
        rounds=3,
        note=f"{EVENTS:,} events; ours checks, spills and publishes",
    )


def test_against_pandas(raw: Path, tmp_path: Path, compare) -> None:
    pytest.importorskip("pandas")
    compare(
        "raw events to last 128",
        AtLeast(goal=3.0),
        ours=lambda: sessions_of(raw, tmp_path),
        reference=lambda: pandas_plan(raw),
        against="pandas, equal work",
        rounds=2,
        warmup=0,
    )


def test_against_the_bare_plan(raw: Path, tmp_path: Path, compare) -> None:
    """Dense ids, dropped repeats, checks, bounded memory and resumability included, against a plan without any."""
    compare(
        "raw events to last 128, all of it",
        AtMost(goal=1.0),
        ours=lambda: sessions_of(raw, tmp_path),
        reference=lambda: bare_polars_plan(raw),
        against="polars, group_by alone",
        rounds=3,
    )


MEASURE = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from bench_logs_prepare import sessions_of, simulate
from adasid_exp.artifacts.provenance import peak_mb
folder = Path({folder!r})
raw = folder / "raw" if (folder / "raw").is_dir() else simulate(folder, {events})
start, before = time.process_time(), peak_mb()
sessions_of(raw, folder, memory_gib={memory})
print(time.process_time() - start, peak_mb(), before)
"""


def measured(folder: Path, events: int, memory_gib: float) -> tuple[float, float]:
    """CPU seconds and peak MiB of a preparation in a process of its own (the logs are made by another)."""
    code = MEASURE.format(path=[str(Path(__file__).parent)], folder=str(folder), events=events, memory=memory_gib)
    for _ in range(2):  # the first makes the logs, whose memory must not count
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, peak, _ = map(float, said.split())
    return seconds, peak


def test_memory_is_flat_and_time_linear(tmp_path: Path, compare, benchmark) -> None:
    """Four times the events: the same peak; and the seconds of one event do not grow."""
    benchmark.pedantic(lambda: None)
    small = measured(tmp_path / "small", SMALL, 1.0)
    large = measured(tmp_path / "large", LARGE, 1.0)
    compare.record(
        f"peak MiB, {LARGE:,} events",
        AtMost(goal=1.15),
        ours=large[1] / 1e3,
        reference=small[1] / 1e3,
        against=f"peak MiB, {SMALL:,} events",
        note="in MiB",
    )
    compare.record(
        f"an event of {LARGE:,}",
        AtMost(goal=1.1),
        ours=large[0] / LARGE * 1e3,
        reference=small[0] / SMALL * 1e3,
        against=f"an event of {SMALL:,}",
        note="in microseconds",
    )
