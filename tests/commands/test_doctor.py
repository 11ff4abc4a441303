"""`adasid doctor` on machines that lack one thing each: the line, the remedy, the exit code."""

from __future__ import annotations

import json
import shutil
import types
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from adasid_exp.commands import doctor, doctor_checks
from adasid_exp.commands.doctor_checks import LACKS, NOTE, OK, Check


def only(checks: Iterable[Check], name: str) -> Check:
    found = [check for check in checks if check.name == name]
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], None]:
    """Lets a distribution have another version, or be gone."""

    def pretend(name: str, value: str | None) -> None:
        real = metadata.version

        def told(asked: str) -> str:
            if asked != name:
                return real(asked)
            if value is None:
                raise metadata.PackageNotFoundError(name)
            return value

        monkeypatch.setattr(doctor_checks.metadata, "version", told)

    return pretend


def test_a_whole_machine_can_run_the_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.run("doctor", ["--runs", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["topic"] for entry in found} == {
        "versions", "machine", "devices", "disk", "data", "credentials", "optional", "programs",
    }  # fmt: skip
    required = {need.name for need in doctor_checks.requirements() if need.marker is None}
    assert required <= {entry["name"] for entry in found if entry["topic"] == "versions"}


@pytest.mark.parametrize("value", [None, "1.0.0"])
def test_a_library_that_is_missing_or_of_another_version(
    value: str | None, version: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version("polars", value)
    check = only(doctor_checks.library_checks(), "polars")
    assert check.state == LACKS
    assert check.found == ("not installed" if value is None else "1.0.0, wanted <3,>=2.1")
    assert check.remedy == 'pip install "polars<3,>=2.1"'
    assert doctor.run("doctor", ["--runs", str(tmp_path)]) == 1
    assert "LACKS polars" in capsys.readouterr().out.splitlines()[-1]


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks.platform, "python_version", lambda: "3.10.4")
    check = only(doctor_checks.python_check(), "python")
    assert (check.state, check.found) == (LACKS, "3.10.4")
    assert "make PYTHON=" in check.remedy


@pytest.mark.parametrize(
    ("extra", "lacking"),
    [("text", "transformers"), ("image", "pillow"), ("viz", "matplotlib"), ("report", "altair"), ("numba", "numba"),
     ("onnx", "onnxruntime"), ("dashboards", "wandb-workspaces"), ("sweep", "hydra-optuna-sweeper"), ("ray", "ray"),
     ("slurm", "hydra-submitit-launcher"), ("docs", "mkdocs")],
)  # fmt: skip
def test_an_optional_part_says_what_it_gives_and_how_to_get_it(extra: str, lacking: str, version: Callable) -> None:
    version(lacking, None)
    check = only(doctor_checks.extra_checks(), extra)
    assert check.state == NOTE  # the pipeline runs without
    assert doctor_checks.EXTRAS[extra] in check.found
    assert lacking in check.found
    assert check.remedy == f'pip install "adasid-exp[{extra}]"'


def test_every_extra_of_the_package_is_looked_at() -> None:
    assert set(doctor_checks.EXTRAS) == set(metadata.metadata("adasid-exp").get_all("Provides-Extra") or [])


def test_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(doctor_checks, "import_module", broken)
    check = only(doctor_checks.torch_checks(), "torch")
    assert check.state == LACKS
    assert "libcudart" in check.found
    assert "make setup" in check.remedy


def machine(*, gpus: int, cuda: str | None, bf16: bool, gloo: bool, nccl: bool) -> Any:
    """As much of torch as is asked."""
    return types.SimpleNamespace(
        __version__="2.13.0",
        version=types.SimpleNamespace(cuda=cuda),
        cuda=types.SimpleNamespace(
            device_count=lambda: gpus,
            get_device_name=lambda _: "H100",
            mem_get_info=lambda _: (70 * 2**30, 80 * 2**30),
            is_bf16_supported=lambda including_emulation: bf16,
        ),
        distributed=types.SimpleNamespace(is_gloo_available=lambda: gloo, is_nccl_available=lambda: nccl),
    )


@pytest.mark.parametrize(
    ("has", "name", "state", "found", "remedy"),
    [
        ({"gpus": 2, "cuda": "13.0"}, "gpu", OK, "2 x H100, 70 GiB free of 80, CUDA 13.0", ""),
        ({"gpus": 0}, "gpu", NOTE, "none that torch sees", "trainer=cpu"),
        ({"gpus": 1, "cuda": "11.8", "bf16": False}, "bf16", NOTE, "emulated", "32-true"),
        ({"gloo": False}, "gloo", NOTE, "not in this torch", "trainer=ddp needs it"),
        ({"nccl": False}, "nccl", NOTE, "not in this torch", "trainer=ddp_gpu needs the CUDA build"),
    ],
)
def test_what_torch_lacks(
    has: dict[str, Any], name: str, state: str, found: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"gpus": 0, "cuda": None, "bf16": True, "gloo": True, "nccl": True}
    monkeypatch.setattr(doctor_checks, "import_module", lambda _: machine(**(whole | has)))
    monkeypatch.setattr(doctor_checks.shutil, "which", lambda _: None)
    check = only(doctor_checks.torch_checks(), name)
    assert (check.state, check.found) == (state, found)
    assert remedy in check.remedy


def test_a_gpu_that_this_build_of_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks.shutil, "which", lambda name: name)
    check = doctor_checks.gpu_check(machine(gpus=0, cuda=None, bf16=True, gloo=True, nccl=False))
    assert "CPU build" in check.found
    assert "TORCH=" in check.remedy


def test_a_full_disk_and_one_that_is_nearly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for free, state in ((2**20, LACKS), (2 * 2**30, NOTE), (50 * 2**30, OK)):
        usage = types.SimpleNamespace(free=free)
        monkeypatch.setattr(doctor_checks.shutil, "disk_usage", lambda _, usage=usage: usage)
        check = only(doctor_checks.disk_checks(tmp_path / "not" / "there"), "free")
        assert check.state == state
        assert ("runs=FOLDER" in check.remedy) == (state != OK)


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(dir: Path) -> None:  # noqa: A002 - tempfile's name
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(doctor_checks.tempfile, "NamedTemporaryFile", refuse)
    check = only(doctor_checks.disk_checks(tmp_path), "runs")
    assert check.state == LACKS
    assert check.found == f"cannot write to {tmp_path}: Permission denied"
    assert "ADASID_RUNS" in check.remedy
    assert doctor.run("doctor", ["--runs", str(tmp_path), "--json"]) == 1


def test_little_memory_and_no_threads_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "memory", lambda: (8 * 2**30, 2**30))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    checks = list(doctor_checks.machine_checks())
    assert "--jobs 1" in only(checks, "memory").remedy
    assert "OMP_NUM_THREADS=1" in only(checks, "threads").remedy


def test_wandb_with_a_key_with_a_netrc_and_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    without = only(doctor_checks.credential_checks(), "wandb")
    assert without.state == NOTE
    assert "stays offline" in without.found
    assert "WANDB_MODE=offline" in without.found
    assert "wandb login" in without.remedy
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert "api.wandb.ai in" in only(doctor_checks.credential_checks(), "wandb").found
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    told = only(doctor_checks.credential_checks(), "wandb")
    assert told.state == OK
    assert "secret" not in told.found


def test_data_that_are_not_there_half_there_damaged_and_whole(tmp_path: Path) -> None:
    def beauty() -> Check:
        return only(doctor_checks.data_checks(tmp_path), "beauty")

    assert beauty().found == f"nothing in {tmp_path}"
    assert "make data-beauty" in beauty().remedy
    reviews, meta = (tmp_path / name for name in doctor_checks.BEAUTY)
    reviews.write_bytes(b"12345")
    assert "meta_Beauty.json.gz is missing" in beauty().found
    meta.write_bytes(b"")
    assert beauty().state == OK
    digest = "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"  # printf 12345 | sha256sum
    record = {reviews.name: {"bytes": 5, "sha256": digest}}
    (tmp_path / doctor_checks.RECORD).write_text(json.dumps(record))
    assert beauty().state == OK
    for damage in (b"1234", b"54321"):
        reviews.write_bytes(damage)
        assert "reviews_Beauty_5.json.gz is not what was downloaded" in beauty().found
    assert "text_vision" in only(doctor_checks.data_checks(tmp_path), "images").remedy


def test_no_browser_and_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADASID_CHROMIUM", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    checks = list(doctor_checks.tool_checks())
    assert "ADASID_CHROMIUM" in only(checks, "browser").remedy
    assert "install git" in only(checks, "git").remedy


def test_this_machine_is_told_as_torch_sees_it() -> None:
    assert doctor_checks.gpu_check(torch).state == (OK if torch.cuda.device_count() else NOTE)
