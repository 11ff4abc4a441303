"""Real SLURM, where this machine can reach one: two tasks train as one, and a pre-empted job goes on.

On a cluster give pytest a folder that its machines share: ``--basetemp=/shared/tmp``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cases import ODD


def reachable() -> bool:
    """Whether there is an `srun` and a controller that answers."""
    if shutil.which("srun") is None or shutil.which("sinfo") is None:
        return False
    asked = subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=20, check=False)
    return asked.returncode == 0 and bool(asked.stdout.strip())


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.skipif(not reachable(), reason="no SLURM here")]

JOB = (*ODD, "stage=tokenize", "tokenizer=rq_vae", "tokenizer.fit.epochs=60", "tokenizer.fit.save_every=1")
TASKS = ("srun", "--ntasks=2", "--kill-on-bad-exit=1", "--job-name=adasid-test")


def start(runs: Path, *before: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-m", "adasid_exp", *JOB, "trainer=ddp", f"runs={runs}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def files(runs: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in runs.glob("tokenize/*/*.safetensors")}


def test_tasks_train_as_one_and_a_stopped_job_goes_on(tmp_path: Path) -> None:
    # Law: two tasks that srun started, stopped by SIGTERM and run again, end with the bytes of two local ranks.
    local = start(tmp_path / "local")
    _, said = local.communicate()
    assert local.returncode == 0, said
    runs = tmp_path / "slurm"
    job = start(runs, *TASKS)
    deadline = time.monotonic() + 300
    while not list(runs.glob(".work/tokenize-*/checkpoints/resume.ckpt")):
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline, "the training never began"
        time.sleep(0.02)
    stopped = ["scancel", "--signal=TERM", "--name=adasid-test"]  # srun itself answers SIGTERM by killing its tasks
    subprocess.run(stopped, check=True)
    _, said = job.communicate(timeout=90)
    assert job.returncode == 75, said
    assert said.count("SIGTERM: saved step") == said.count("stopped by SIGTERM") == 1, said
    job = start(runs, *TASKS)
    _, said = job.communicate()
    assert job.returncode == 0, said
    assert said.count("resuming tokenize") == said.count("made tokenize") == 1, said
    assert files(runs) == files(tmp_path / "local") != {}
