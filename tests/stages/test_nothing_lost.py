"""Stopped at any step, by SIGTERM or kill -9, by a full disk: what was finished stays, and the rest is made alike."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from lightning import Callback

from adasid_exp.artifacts.store import MANIFEST, Manifest, Store
from adasid_exp.stages import fitting
from adasid_exp.stages.base import Stage
from adasid_exp.stages.checkpoints import CheckpointFiles, load_safely
from adasid_exp.stages.preemption import Preempted
from adasid_exp.stages.quiet import quiet
from adasid_exp.stages.ranks import forking
from adasid_exp.stages.schedule import stage_of
from adasid_exp.types import UserError
from conftest import MICRO

STAGES = {
    "behave": (),
    "tokenize": ("tokenizer=ada_sid",),
    "retrieve": ("tokenizer=rq_vae",),
    "rank": ("tokenizer=rq_vae",),
}
pytestmark = [pytest.mark.filterwarnings("ignore:.*exists and is not empty.*")]
BATCHES = "scale.batch_size={behavior:32,tokenizer:32,retriever:32,ranker:128}"
KILLS = 20


def stage_in(runs: Path, *overrides: str) -> Stage:
    return stage_of((*MICRO, BATCHES, *overrides, f"runs={runs}", "progress=false", "seed=0"))


def digests(runs: Path) -> dict[str, dict[str, str]]:
    """SHA-256 of every file of every artifact, by artifact and path."""
    found = {path.parent: Manifest.load(path.parent) for path in runs.glob(f"*/*/{MANIFEST}")}
    return {
        f"{folder.parent.name}/{folder.name}": {name: file["sha256"] for name, file in manifest.files.items()}
        for folder, manifest in found.items()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every stage was made without a stop."""
    quiet()
    runs = tmp_path_factory.mktemp("undisturbed")
    for name, how in STAGES.items():
        stage_in(runs, f"stage={name}", *how).ensure(Store(runs))
    return runs


class Scheduler(Callback):
    """Wants the machine back at a step of the training."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: object, pl_module: object, optimizer: object) -> None:
        if trainer.global_step + 1 == self.step:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGTERM)


def upstream_of(stage: Stage, undisturbed: Path, runs: Path) -> None:
    """Copies what the stage is made from, so that only the stage itself is made again."""
    for each in stage.walk():
        if each.signature != stage.signature:
            found = Store(undisturbed).find(each.name, each.signature)
            assert found is not None
            shutil.copytree(found, runs / each.name / found.name)


@pytest.mark.usefixtures("sigterm")
@pytest.mark.parametrize("name", STAGES)
def test_sigterm_at_any_step_saves_it_and_the_rest_is_made_alike(
    name: str, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Law: k steps, a stop, k more = 2k steps, byte for byte: within an epoch, at its last step, in the one after.
    stage = stage_in(tmp_path, f"stage={name}", *STAGES[name])
    upstream_of(stage, undisturbed, tmp_path)
    callbacks = fitting._callbacks
    steps = iter([2, 5, 10])
    stops = 0
    while True:
        step = next(steps, 10**9)
        monkeypatch.setattr(fitting, "_callbacks", lambda *how, step=step: [Scheduler(step), *callbacks(*how)])
        try:
            stage.ensure(Store(tmp_path))
            break
        except Preempted:
            stops += 1
            (saved,) = tmp_path.glob(f".work/{name}-*/checkpoints/resume.ckpt")
            assert load_safely(saved)["global_step"] >= step
    assert stops >= 2
    folder = f"{name}/{stage.label}-{stage.signature}"
    assert digests(tmp_path)[folder] == digests(undisturbed)[folder]
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # the command's own handler is back


def make(runs: str, overrides: tuple[str, ...], limit: int | None) -> None:
    """The life of a process: makes a stage and what it needs; files may not grow beyond ``limit``."""
    quiet()
    torch.set_num_threads(1)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        stage_in(Path(runs), *overrides).ensure(Store(Path(runs)))
    except UserError as error:
        Path(runs, "said.txt").write_text(str(error))
        os._exit(2)


def start(runs: Path, overrides: tuple[str, ...], limit: int | None = None):
    # Forked from a server that has imported torch: twenty restarts would be twenty imports otherwise.
    process = forking().Process(target=make, args=(str(runs), overrides, limit))
    process.start()
    return process


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_twenty_random_moments_the_artifacts_are_the_same(undisturbed: Path, tmp_path: Path) -> None:
    # Law: whatever a kill leaves behind, the next start ends with the bytes of an undisturbed run.
    asked = ("stage=retrieve", *STAGES["retrieve"])
    expected = digests(undisturbed)
    moments, kills, finished, runs = random.Random(0), 0, 0, tmp_path / "0"
    start(tmp_path / "warm", ("stage=prepare",)).join()  # the one that is forked from has started
    begin = time.monotonic()
    process = start(tmp_path / "whole", asked)
    process.join()
    whole = time.monotonic() - begin
    while kills < KILLS or finished == 0:
        process = start(runs, asked)
        process.join(moments.uniform(0.1, 0.6) * whole if kills < KILLS else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            continue
        assert process.exitcode == 0
        found = digests(runs)
        assert found == {name: expected[name] for name in found}
        assert any(name.startswith("retrieve/") for name in found)
        finished += 1
        runs = tmp_path / str(finished)
    assert not list(runs.glob("*/*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [2_000, 9_000, 40_000])
def test_a_full_disk_is_one_line_and_old_results_stay(limit: int, undisturbed: Path, tmp_path: Path) -> None:
    # The kernel itself refuses to write further (EFBIG as ENOSPC): whatever library is writing at that moment.
    asked = ("stage=retrieve", *STAGES["retrieve"])
    process = start(tmp_path, asked, limit)
    process.join()
    assert process.exitcode == 2
    said = (tmp_path / "said.txt").read_text()
    assert "the disk refused while making" in said
    assert "File too large" in said or "it is full" in said
    assert "\n" not in said
    expected, left = digests(undisturbed), digests(tmp_path)
    assert left == {name: expected[name] for name in left}
    process = start(tmp_path, asked)
    process.join()
    assert process.exitcode == 0
    found = digests(tmp_path)
    assert found == {name: expected[name] for name in found}
    assert left.items() <= found.items()


def test_a_folder_that_cannot_be_written_is_one_line() -> None:
    if not Path("/proc/self").exists():
        pytest.skip("has no /proc")
    nowhere = Path("/proc/runs")
    with pytest.raises(UserError, match="cannot write to /proc/runs") as caught:
        stage_in(nowhere, "stage=prepare").ensure(Store(nowhere))
    assert "\n" not in str(caught.value)


def checkpoint_of(signature: str, path: Path) -> Path:
    CheckpointFiles(signature=signature).save_checkpoint({"state_dict": {"w": torch.zeros(100)}}, path)
    return path


class Stopping(io.FileIO):
    """A file in which Ctrl-C strikes at the third piece that is written, or the disk is full then."""

    stop: type[BaseException] = KeyboardInterrupt
    pieces = 0

    def write(self, piece: bytes) -> int:
        self.pieces += 1
        if self.pieces == 3:
            raise self.stop
        return super().write(piece)


@pytest.mark.parametrize(
    ("stop", "raised"), [(KeyboardInterrupt, KeyboardInterrupt), (Preempted, Preempted), (OSError, RuntimeError)]
)
def test_ctrl_c_within_a_checkpoint_is_ctrl_c(
    stop: type[BaseException], raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's writer says "unexpected pos" for whatever stopped it; the checkpoint that was there stays."""
    path = checkpoint_of("a", tmp_path / "resume.ckpt")
    before = path.read_bytes()
    monkeypatch.setattr(Stopping, "stop", stop)
    monkeypatch.setattr(Path, "open", lambda path, mode: Stopping(path, mode))
    with pytest.raises(raised) as caught:
        checkpoint_of("a", path)
    monkeypatch.undo()
    assert isinstance(caught.value, stop) or isinstance(caught.value.__context__, stop)
    assert path.read_bytes() == before


@pytest.mark.parametrize("size", [0, 1, 100, 1000])
def test_a_truncated_checkpoint_is_one_line(size: int, tmp_path: Path) -> None:
    path = checkpoint_of("a", tmp_path / "resume.ckpt")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match="is no readable checkpoint .* delete it") as caught:
        CheckpointFiles(signature="a").load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_configuration_is_one_line(tmp_path: Path) -> None:
    path = checkpoint_of("a", tmp_path / "resume.ckpt")
    assert CheckpointFiles(signature="a").load_checkpoint(path)["state_dict"]["w"].numel() == 100
    with pytest.raises(UserError, match=r"another configuration \(a, this one is b\)"):
        CheckpointFiles(signature="b").load_checkpoint(path)


def test_a_checkpoint_that_does_not_fit_the_model_is_one_line(undisturbed: Path, tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "stage=behave")
    upstream_of(stage, undisturbed, tmp_path)
    state = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.6.6", "state_dict": {"w": torch.zeros(1)}}
    work = tmp_path / ".work" / f"behave-{stage.signature}" / "checkpoints" / "resume.ckpt"
    CheckpointFiles(signature=stage.signature).save_checkpoint(state, work)
    with pytest.raises(UserError, match="does not fit this configuration") as caught:
        stage.ensure(Store(tmp_path))
    assert "\n" not in str(caught.value)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


def test_a_checkpoint_executes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Bomb()}, tmp_path / "resume.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    for name in ("resume.ckpt", "plain.ckpt"):
        with pytest.raises(UserError, match="is no readable checkpoint"):
            CheckpointFiles(signature="a").load_checkpoint(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint_of("a", tmp_path / "resume.ckpt")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint_of("b", path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/hostname", "link/secret.txt", ""])
def test_a_manifest_that_names_files_elsewhere_is_refused(name: str, undisturbed: Path, tmp_path: Path) -> None:
    stage = stage_in(tmp_path, "stage=prepare")
    found = Store(undisturbed).find("prepare", stage.signature)
    assert found is not None
    folder = tmp_path / "prepare" / found.name
    shutil.copytree(found, folder)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link").symlink_to(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": 6, "sha256": ""}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="names a file outside of itself"):
        Store(tmp_path).find("prepare", stage.signature)
