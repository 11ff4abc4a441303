"""The pipeline as its users run it: in processes of its own, killed, repeated, with faulty input."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.artifacts.store import Manifest
from adasid_exp.stages.preemption import RESUMABLE
from conftest import MICRO, command, environment


def only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    assert len(found) == 1, found
    return found[0]


def where(said: CompletedProcess[str]) -> Path:
    """The folder that a finished stage names in its last line."""
    assert said.returncode == 0, said.stderr
    found = re.search(r" is in (\S+)", said.stderr)
    assert found, said.stderr
    return Path(found[1])


@pytest.mark.slow
def test_a_grid_runs_reports_and_the_second_time_finds_everything(
    adasid: Callable, micro_runs: Path, tmp_path: Path
) -> None:
    asked = (
        "stage=reproduce",
        "stage.grid=table2",
        "stage.seeds=[0]",
        "stage.jobs=2",
        f"stage.results={tmp_path}",
    )
    first = adasid(*asked, *MICRO)
    assert first.returncode == 0, first.stderr
    records = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    found = {(r["method"], r["task"]) for r in records}
    assert {
        ("rq_vae", "retrieval"),
        ("ada_sid", "ranking"),
        ("item_knn", "retrieval"),
        ("item_id", "ranking"),
    } <= found
    assert all(float(r["seconds"]) > 0 and float(r["peak_memory_mb"]) > 0 for r in records)
    text = (tmp_path / "table2.md").read_text()
    assert "ADA-SID" in text
    assert "holds for every run here" in text
    made = sorted(path for path in micro_runs.glob("*/*/manifest.json"))
    second = adasid(*asked, *MICRO)
    assert second.returncode == 0, second.stderr
    assert "are there already" in second.stderr
    assert sorted(path for path in micro_runs.glob("*/*/manifest.json")) == made


@pytest.mark.slow
def test_the_figures_of_the_table_are_those_of_the_per_user_rows(adasid: Callable) -> None:
    # Reference: recall and its tie expectation written out in numpy over the rows file.
    folder = where(adasid("stage=retrieve", "tokenizer=rq_vae", *MICRO))
    rows = pl.read_parquet(folder / "rows.parquet")
    above, tied = rows["above"].to_numpy(), rows["tied"].to_numpy()
    recall = np.mean(np.minimum(tied, np.maximum(0, 10 - above)) / tied)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test/recall@10"] == pytest.approx(recall, abs=1e-6)
    assert metrics["test/sid_recall@10"] >= metrics["test/recall@10"] - 1e-9


@pytest.mark.slow
def test_a_sweep_returns_its_objective(adasid: Callable, micro_runs: Path) -> None:
    swept = adasid("-m", "stage=retrieve", "tokenizer=ada_sid", "tokenizer.align.alpha=10,20", *MICRO)
    assert swept.returncode == 0, swept.stderr
    folders = list((micro_runs / "retrieve").glob("toy-ada_sid-item_softmax-*"))
    assert len(folders) >= 2
    assert len(set(re.findall(r"val/ndcg@50 = [0-9.]+", swept.stderr))) >= 1
    alphas = {
        Manifest.load(path).settings["tokenizer"]["align"]["alpha"]
        for path in (micro_runs / "tokenize").glob("toy-ada_sid-retrieval-*")
    }
    assert {10, 20} <= {int(alpha) for alpha in alphas}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "pattern"),
    [("tokenize", "tokenize-*"), ("behave", "behave-*"), ("retrieve", "retrieve-*"), ("rank", "rank-*")],
)
def test_killed_while_training_it_resumes_to_the_same_bytes(
    stage: str, pattern: str, adasid: Callable, kill_when: Callable, micro_runs: Path, tmp_path: Path
) -> None:
    # Law: killed and resumed = undisturbed, byte for byte.
    # Many short epochs: the kill falls well before the end.
    longer = [*MICRO[:-1], "scale.epochs={behavior:20,tokenizer:40,retriever:20,slots:20,ranker:20}"]
    asked = [f"stage={stage}", "tokenizer=rq_vae", "tokenizer.fit.save_every=1", *longer]
    assert adasid(*asked).returncode == 0
    kill_when(asked, tmp_path, lambda: any((tmp_path / ".work").glob(f"{pattern}/checkpoints/resume.ckpt")))
    assert not any((tmp_path / stage).glob("*/manifest.json"))
    resumed = adasid(*asked, runs=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming" in resumed.stderr
    killed = only(tmp_path / stage, "toy-*")
    undisturbed = only(micro_runs / stage, killed.name)
    assert Manifest.load(killed).files == Manifest.load(undisturbed).files


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept_and_how_to_go_on(kill_when: Callable, tmp_path: Path) -> None:
    asked = ["stage=tokenize", "tokenizer=rq_vae", "tokenizer.fit.epochs=5000", "tokenizer.fit.save_every=1", *MICRO]
    resume_point = "tokenize-*/checkpoints/resume.ckpt"
    said = kill_when(asked, tmp_path, lambda: any((tmp_path / ".work").glob(resume_point)), signal.SIGINT)
    assert said.returncode == 130
    assert f"stopped; what was finished is kept in {tmp_path}" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.slow
def test_sigterm_is_one_line_and_the_resumable_exit_code(kill_when: Callable, tmp_path: Path) -> None:
    asked = ["stage=tokenize", "tokenizer=rq_vae", "tokenizer.fit.epochs=50000", *MICRO]
    resume_point = "tokenize-*/checkpoints/resume.ckpt"
    said = kill_when(asked, tmp_path, lambda: any((tmp_path / ".work").glob(resume_point)), signal.SIGTERM)
    assert said.returncode == RESUMABLE == 75
    assert said.stderr.count("SIGTERM: saved step") == 1
    assert (
        said.stderr.strip()
        .splitlines()[-1]
        .endswith(f"stopped by SIGTERM; what was finished is kept in {tmp_path}, the same command goes on from there")
    )
    assert "Traceback" not in said.stderr


@pytest.mark.slow
def test_sids_and_their_inverse_agree_with_the_catalogue(adasid: Callable) -> None:
    folder = where(adasid("stage=assign", "tokenizer=ada_sid", *MICRO))
    sids = SemanticIds.load(folder)
    inverse = pl.read_parquet(folder / "inverse.parquet")
    assert sorted(inverse["item_ids"].explode().to_list()) == sorted(sids.item_ids.tolist())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["collision_rate"] == pytest.approx(1 - len(inverse) / len(sids.item_ids))  # by definition


@pytest.mark.slow
def test_a_collision_policy_is_on_record_with_what_it_left(adasid: Callable, tmp_path: Path) -> None:
    # 80 items, 64 SIDs of two slots: only a longer SID can part them all.
    policies = "collisions=none,dedup_token,sinkhorn,nearest_free"
    said = adasid("-m", "stage=assign", "tokenizer=rq_vae", policies, *MICRO, "scale.length=2", runs=tmp_path)
    assert said.returncode == 0, said.stderr
    folders = {
        Manifest.load(path).facts.get("collisions", {"policy": "none"})["policy"]: path
        for path in (tmp_path / "assign").iterdir()
    }
    plain = SemanticIds.load(folders.pop("none"))
    assert plain.collisions is None
    before = len(np.unique(plain.codes, axis=0))
    assert set(folders) == {"dedup_token", "sinkhorn", "nearest_free"}
    for policy, folder in folders.items():
        sids, record = SemanticIds.load(folder), Manifest.load(folder).facts["collisions"]
        after = len(np.unique(sids.codes, axis=0))
        assert sids.collisions == record
        assert record["rate_before"] == pytest.approx(1 - before / 80)
        assert record["rate_after"] == pytest.approx(1 - after / 80)
        assert record["moved"] == (sids.codes[:, :2] != plain.codes).any(axis=1).sum()
        assert record["not_resolved"] == 80 - after
        assert after == 80 if policy == "dedup_token" else before < after < 80
        assert f"{record['moved']} moved, {record['not_resolved']} found no SID of their own" in said.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data=tables", "data.root=/nonexistent"), "/nonexistent"),
        (("data=beauty", "data.root=/nonexistent"), "/nonexistent"),
        (("stage=reproduce", "stage.grid=tabel2"), "did you mean table2"),
        (("stage=reproduce", "stage.methods=[ada_syd]"), "did you mean ada_sid"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(overrides: tuple[str, ...], message: str, adasid: Callable) -> None:
    said = adasid(*(("stage=prepare",) if overrides[0].startswith("data") else ()), *overrides)
    assert said.returncode == 2
    assert message in said.stderr
    assert "Traceback" not in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1


def test_a_misspelt_option_names_itself(adasid: Callable) -> None:
    said = adasid("tokenizer.algin.alpha=3")
    assert said.returncode != 0
    assert "algin" in said.stderr
    assert "Traceback" not in said.stderr


def workers_of(parent: int) -> list[int]:
    """Processes that a grid started to make artifacts."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, line = (folder / "status").read_text(), (folder / "cmdline").read_bytes()
        except OSError:  # it ended while we looked
            continue
        if f"PPid:\t{parent}\n" in status and b"spawn_main" in line:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds the workers in /proc")
@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        (signal.SIGKILL, 2, "a worker died while making"),
        (signal.SIGTERM, RESUMABLE, "stopped by SIGTERM; what was finished is kept"),
    ],
)
def test_a_grid_whose_worker_goes_ends_in_one_line(how: signal.Signals, code: int, reason: str, tmp_path: Path) -> None:
    # As when memory is short, or a scheduler ends a process: the other worker must not keep the grid waiting.
    asked = command("stage=reproduce", "stage.grid=table4", "stage.seeds=[0]", "stage.jobs=2", *MICRO)
    long = ("scale.epochs.tokenizer=3000", "stage.methods=[a20_b9]", f"stage.results={tmp_path}/results")
    process = subprocess.Popen(
        [*asked, *long], env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 150
    while len(list((tmp_path / ".work").glob("tokenize-*/checkpoints/resume.ckpt"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline, "two trainings never ran side by side"
        time.sleep(0.05)
    os.kill(workers_of(process.pid)[0], how)
    _, said = process.communicate(timeout=180)
    assert process.returncode == code
    assert reason in said
    assert "Traceback" not in said
