"""A toy small enough for tests: every stage is real, only the sizes are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

MICRO = (
    "data=toy",
    "data.users=150",
    "data.items=80",
    "data.classes=8",
    "scale.codebook_size=8",
    "scale.length=3",
    "scale.width={hidden:16,latent:16,code:8}",
    "scale.epochs={behavior:2,tokenizer:12,retriever:2,slots:2,ranker:1}",
)


def environment(runs: Path) -> dict[str, str]:
    return {**os.environ, "ADASID_RUNS": str(runs), "OMP_NUM_THREADS": "1"}


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "adasid_exp", *overrides]


@pytest.fixture(scope="session")
def micro_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the tests of this folder share, so that nothing is made twice."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def adasid(micro_runs: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command as a user would and returns what it said."""

    def run(*overrides: str, runs: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*overrides),
            env=environment(runs or micro_runs),
            cwd=cwd or micro_runs.parent,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return run


def _hear_ctrl_c() -> None:
    """A shell's background jobs are born deaf to Ctrl-C, and so would be what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def kill_when() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Starts the command, sends it a signal once a condition holds, and returns what it said."""

    def run(
        overrides: Sequence[str], runs: Path, condition: Callable[[], bool], how: signal.Signals = signal.SIGKILL
    ) -> subprocess.CompletedProcess[str]:
        process = subprocess.Popen(
            command(*overrides),
            env=environment(runs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear_ctrl_c,
        )
        deadline = time.monotonic() + 120
        while not condition():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline, "the moment to kill never came"
            time.sleep(0.01)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, "", said)

    return run
