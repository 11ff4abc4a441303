"""Ranks that fall, are stopped, or were started by torchrun: one line, no hang, and the rest is made alike."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import active_children, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from cases import ODD
from omegaconf import DictConfig, OmegaConf

from adasid_exp.artifacts.store import Manifest, Store
from adasid_exp.stages.preemption import RESUMABLE, Preempted
from adasid_exp.stages.ranks import GRACE, Order, external_seat, launch
from adasid_exp.stages.schedule import stage_of
from adasid_exp.types import UserError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ASKED = ("stage=tokenize", "tokenizer=rq_vae", "tokenizer.fit.epochs=60", "tokenizer.fit.save_every=1", "trainer=ddp")


@pytest.fixture(autouse=True)
def stacks_of_ranks_that_hang() -> Iterator[None]:
    """Before the limit falls, the ranks that are left write down where they wait."""

    def ask() -> None:
        for rank in active_children():
            os.kill(rank.pid or 0, signal.SIGUSR1)

    timer = threading.Timer(500, ask)
    timer.start()
    yield
    timer.cancel()


def ensure(runs: Path, *overrides: str) -> dict[str, str]:
    """Makes the tokenizer; SHA-256 of its files."""
    folder = stage_of((*ODD, *ASKED, *overrides, f"runs={runs}", "seed=0")).ensure(Store(runs))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}


def once_saved(runs: Path, act: Callable[[], None]) -> threading.Thread:
    """Acts when a new resume point is there."""
    start = time.time()

    def wait() -> None:
        while not any(p.stat().st_mtime > start for p in runs.glob(".work/tokenize-*/checkpoints/resume.ckpt")):
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def kill_a_rank() -> None:
    os.kill(max(child.pid or 0 for child in active_children()), signal.SIGKILL)


@pytest.mark.usefixtures("sigterm")
def test_a_rank_falls_all_are_stopped_and_the_end_is_the_same(tmp_path: Path) -> None:
    # Law: whatever happens on the way, two ranks end with the bytes of two ranks that nobody disturbed.
    own = time.process_time()
    expected = ensure(tmp_path / "undisturbed")
    own = time.process_time() - own
    (folder,) = (tmp_path / "undisturbed" / "tokenize").iterdir()
    cost = Manifest.load(folder).provenance
    assert cost["ranks"] == 2
    assert cost["cpu_seconds"] > own  # what the ranks spent, which this process only waited for
    runs = tmp_path / "disturbed"
    once_saved(runs, kill_a_rank)
    with pytest.raises(UserError, match=r"rank 1 of 2 failed while making tokenize .* killed by SIGKILL") as caught:
        ensure(runs)
    assert "\n" not in str(caught.value)
    assert not active_children()
    once_saved(runs, lambda: os.kill(os.getpid(), signal.SIGTERM))
    begin = time.monotonic()
    with pytest.raises(Preempted):
        ensure(runs)
    assert time.monotonic() - begin < GRACE  # it did not take a kill to end them
    assert not active_children()
    assert ensure(runs) == expected


def test_ranks_are_forked_from_a_process_without_threads(tmp_path: Path) -> None:
    # Law: a fork copies locks and not the threads that would release them. Polars starts threads at its import, so
    # that ranks forked behind it might wait for ever; BLAS, whose threads carry the process's name, survives a fork.
    ensure(tmp_path, "tokenizer.fit.epochs=1")
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    assert {path.read_text() for path in Path(f"/proc/{server}/task").glob("*/comm")} == {
        Path(f"/proc/{server}/comm").read_text()
    }


@pytest.mark.usefixtures("sigterm")
def test_a_rank_that_is_stopped_before_it_began_is_resumable(tmp_path: Path) -> None:
    # The signal waits, blocked, until the rank has a handler for it: then it is what any other SIGTERM is.
    begun: list[BaseProcess] = []

    def early() -> None:
        while not begun:
            begun.extend(active_children())
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=early, daemon=True).start()
    with pytest.raises(Preempted):
        ensure(tmp_path)
    assert [process.exitcode for process in begun] == [RESUMABLE] * len(begun)


@dataclass
class Talker:
    """Work of ranks whose facts fill more than a pipe holds, 64 KiB."""

    cfg: DictConfig
    title: str = "talk"
    signature: str = "talk"

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        return {"text": "x" * 1_000_000}


def test_what_ranks_say_may_be_long(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"threads": 1, "trainer": {"accelerator": "cpu", "devices": 2, "num_nodes": 1}})
    facts = launch(Order(stage=Talker(cfg), inputs={}, work=tmp_path, out=tmp_path))
    assert len(facts["text"]) == 1_000_000


def test_a_mistake_that_all_ranks_meet_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer.codebook.spherical=true") as caught:
        ensure(tmp_path, "tokenizer.codebook.spherical=true")
    assert "\n" not in str(caught.value)


def test_a_programming_error_names_the_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rank \d of 2 failed while making .*traceback in (\S+)\)") as caught:
        ensure(tmp_path, "tokenizer.latent=-1")
    report = re.search(r"traceback in (\S+)\)", str(caught.value))
    assert report
    assert "Traceback" in Path(report[1]).read_text()


def test_torchrun_makes_it_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "adasid_exp"]
    said = subprocess.run(
        [*command, *ODD, *ASKED, "tokenizer.fit.epochs=4", f"runs={tmp_path}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stderr.count("made tokenize") == said.stderr.count("made prepare") == 1, said.stderr
    assert len(list(tmp_path.glob("tokenize/*/manifest.json"))) == 1


def test_the_place_that_slurm_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    # By hand: 2 machines of 4 tasks, the third task of the second machine.
    slurm = {"NTASKS": "8", "PROCID": "6", "LOCALID": "2", "STEP_NUM_NODES": "2", "NNODES": "7"}
    slurm |= {"JOB_ID": "4321", "STEP_ID": "1", "NODELIST": "gpu[03-09]", "STEP_NODELIST": "gpu[07-08]"}
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    seat = external_seat()
    assert seat is not None
    assert (seat.rank, seat.world, seat.local_rank, seat.local_world) == (6, 8, 2, 4)
    assert os.environ["MASTER_ADDR"] == "gpu07"
    assert os.environ["MASTER_PORT"] == str(15000 + 4321 + 1)


def test_several_machines_need_a_launcher(tmp_path: Path) -> None:
    logging.getLogger("adasid_exp").setLevel(logging.INFO)
    with pytest.raises(UserError, match="start the command on every machine with torchrun or srun"):
        ensure(tmp_path, "trainer.num_nodes=2")
