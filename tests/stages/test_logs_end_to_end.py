"""Table 2's grid on simulated logs, as its users run it: from raw shards to the table."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score

from adasid_exp.artifacts.prepared_logs import PreparedLogs
from adasid_exp.artifacts.store import Store
from adasid_exp.stages.base import plain
from adasid_exp.stages.building import construct
from adasid_exp.stages.locations import CONF
from adasid_exp.stages.schedule import stage_of
from adasid_exp.types import UserError

SIZES = {"events": 9000, "events_per_shard": 3000, "items_per_shard": 100, "text": 12, "vision": 8}
WORLD = {"users": 250, "items": 150, "classes": 8, "drift_days": 21}
SMALL = (
    "data=logs", "data.partitions=3", "scale.codebook_size=8", "scale.length=3", "scale.history=20",
    "scale.width={hidden:16,latent:16,code:8}", "scale.retriever={dim:16,hidden:16}", "scale.buffer=512",
    "scale.epochs={behavior:1,tokenizer:4,retriever:1,slots:1,ranker:1}",
)  # fmt: skip


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw logs of 250 users."""
    node = OmegaConf.load(CONF / "stage" / "simulate_logs.yaml").simulator
    node.merge_with({**SIZES, "engine": OmegaConf.load(CONF / "engine" / "local.yaml")})
    node.world.merge_with(WORLD)
    folder = tmp_path_factory.mktemp("raw")
    simulator = construct(plain(node))
    simulator.write(work=tmp_path_factory.mktemp("work"), out=folder, bar=False)
    return folder


@pytest.fixture(scope="module")
def made(raw: Path, adasid: Callable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The store and the results of the grid."""
    runs, results = tmp_path_factory.mktemp("log_runs"), tmp_path_factory.mktemp("results")
    grid = ("stage=reproduce", "stage.grid=table2", "stage.methods=[rq_vae,ada_sid]", "stage.seeds=[0]", "stage.jobs=1")
    said = adasid(*grid, *SMALL, f"data.root={raw}", f"stage.results={results}", runs=runs)
    assert said.returncode == 0, said.stderr
    return runs, results


def only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    assert len(found) == 1, found
    return found[0]


def sequences_of(logs: PreparedLogs) -> list[np.ndarray]:
    """Reference: each user's kept items, by a loop."""
    return [
        np.array(part.item[a:b])
        for part in logs.partitions
        for a, b in zip(part.offsets[:-1], part.offsets[1:], strict=True)
    ]


@pytest.mark.slow
def test_every_row_of_the_grid_has_its_cells(made: tuple[Path, Path]) -> None:
    _, results = made
    records = list(csv.DictReader((results / "runs.csv").read_text().splitlines()))
    cells = {(r["method"], r["task"]) for r in records}
    parts = {("rq_vae", part) for part in ("quantization", "retrieval", "ranking")}
    parts |= {("ada_sid", part) for part in ("quantization", "retrieval", "ranking")}
    references = {
        ("popularity", "retrieval"),
        ("item_knn", "retrieval"),
        ("sasrec", "retrieval"),
        ("item_id", "ranking"),
    }
    assert cells == parts | references
    assert "holds for every run here" in (results / "table2.md").read_text()


@pytest.mark.slow
def test_popularity_recall_is_that_of_a_loop_over_the_arrays(made: tuple[Path, Path]) -> None:
    # Reference: counts without each user's last two, the expectation over ties written out.
    runs, _ = made
    sequences = sequences_of(PreparedLogs.load(only(runs / "prepare", "logs-*")))
    train = [s[:-2] if len(s) >= 3 else s for s in sequences]
    counts = np.bincount(np.concatenate(train), minlength=WORLD["items"])
    targets = np.array([s[-1] for s in sequences if len(s) >= 3])
    above, tied = (counts > counts[targets][:, None]).sum(1), (counts == counts[targets][:, None]).sum(1)
    expected = np.mean(np.clip(10 - above, 0, tied) / tied)
    folder = only(runs / "retrieve", "logs-popularity-*")
    assert json.loads((folder / "metrics.json").read_text())["test/recall@10"] == pytest.approx(expected, abs=1e-6)
    users = pl.read_parquet(folder / "rows.parquet")["user"].to_list()
    assert users == [number for number, s in enumerate(sequences) if len(s) >= 3]


@pytest.mark.slow
def test_ranking_is_measured_on_every_impression_of_the_test_window(made: tuple[Path, Path]) -> None:
    runs, _ = made
    logs = PreparedLogs.load(only(runs / "prepare", "logs-*"))
    late = [part.impression_timestamp >= logs.about["windows"]["test_start"] for part in logs.partitions]
    expected = sorted(
        (int(user) + part.first_user, int(item), float(label), int(count))
        for part, mask in zip(logs.partitions, late, strict=True)
        for user, item, label, count in zip(
            part.impression_user[mask], part.impression_item[mask], part.label[mask], part.impression_count[mask],
            strict=True,
        )
    )  # fmt: skip
    folders = list((runs / "rank").glob("*"))
    assert len(folders) == 3
    for folder in folders:
        rows = pl.read_parquet(folder / "rows.parquet")
        assert sorted(rows.select("user", "item", "label", "item_count").rows()) == expected
        auc = roc_auc_score(rows["label"].to_numpy(), rows["score"].to_numpy())
        assert json.loads((folder / "metrics.json").read_text())["test/auc"] == pytest.approx(auc, abs=1e-6)


@pytest.mark.slow
def test_ada_sid_has_the_paper_s_industrial_slots(made: tuple[Path, Path]) -> None:
    runs, _ = made
    for folder in (runs / "assign").glob("logs-ada_sid-*"):
        layout = json.loads((folder / "layout.json").read_text())
        assert layout["modalities"] == ["shared"] * 2 + ["text"] * 2 + ["vision"] * 2 + ["behavior"] * 6


@pytest.mark.slow
def test_embeddings_are_linked_and_never_copied(made: tuple[Path, Path]) -> None:
    runs, _ = made
    logs = PreparedLogs.load(only(runs / "prepare", "logs-*"))
    for modality in ("text", "vision"):
        shards = logs.embeddings(modality).files
        linked = sorted(only(runs / "embed", f"logs-{modality}-*").glob("vectors-*.npy"))
        assert len(shards) == len(linked) == 2
        assert all(a.samefile(b) for a, b in zip(shards, linked, strict=True))


@pytest.mark.slow
def test_sids_made_from_logs_are_inspected(made: tuple[Path, Path], raw: Path, tmp_path: Path) -> None:
    # Reference: pairs of items of one user's training part, by a loop, over all pairs of the catalogue.
    runs, _ = made
    asked = ("stage=inspect", "tokenizer=rq_vae", *SMALL, f"data.root={raw}", f"runs={runs}")
    stage_of((*asked, f"stage.results={tmp_path}")).run(Store(runs))
    figures = json.loads(only(tmp_path, "*.json").read_text())
    sequences = sequences_of(PreparedLogs.load(only(runs / "prepare", "logs-*")))
    train = [set(s[:-2].tolist() if len(s) >= 3 else s.tolist()) for s in sequences]
    pairs = {pair for items in train for pair in itertools.combinations(sorted(items), 2)}
    items = figures["sid"]["items"]
    assert figures["sid"]["copurchase_base"] == pytest.approx(len(pairs) / (items * (items - 1) / 2))


def test_tables_with_the_split_of_logs_are_refused_in_one_line(tmp_path: Path) -> None:
    stage = stage_of(("stage=behave", "data=toy", "data.users=150", "data.items=80", "splits=logs"))
    with pytest.raises(UserError, match="splits.retrieval does not fit data=toy: choose splits=default") as caught:
        stage.ensure(Store(tmp_path))
    assert "\n" not in str(caught.value)
