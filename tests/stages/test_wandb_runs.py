"""When wandb goes online, what happens where it cannot, one rank's voice, tables of grids, and what costs nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from test_tracking import as_nobody, read_all

from adasid_exp.stages import wandb_runs
from adasid_exp.stages.recording import About
from adasid_exp.stages.tracking import recorders, training_loggers
from adasid_exp.stages.wandb_runs import WandbRuns, logged_in
from adasid_exp.types import UserError
from conftest import MICRO, command

SETTINGS = {
    "project": "p", "entity": None, "group": "g", "mode": None, "tags": [], "overrides": [],
    "timeout": 1, "patience": 1, "upload": [],
}  # fmt: skip

ALONE = """
import json, logging, sys, time
from pathlib import Path
from adasid_exp.stages.recording import About
from adasid_exp.stages.tracking import recorders, training_loggers
from adasid_exp.stages.wandb_runs import WandbRuns
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
runs = WandbRuns(**json.loads(sys.argv[1]))
started = time.monotonic()
for number in range(2):
    about = About(stage="s", label="l", signature=str(number), logs=Path(sys.argv[2]), name="n", config={})
    print(runs.open(about).settings.mode)
runs.close(failed=False)
print(time.monotonic() - started)
"""


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """No credentials, no settings of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(wandb_runs, "base_url", lambda: "https://wandb.example.org")
    return tmp_path


def test_a_login_is_a_key_or_a_line_of_netrc_for_the_server(nobody, monkeypatch):
    assert not logged_in()
    (nobody / "netrc").write_text("machine other.example.org login user password secret\n")
    assert not logged_in()
    (nobody / "netrc").write_text("machine wandb.example.org login user password secret\n")
    assert logged_in()
    (nobody / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert logged_in()


def test_a_netrc_that_cannot_be_read_is_no_login_and_says_so(nobody, caplog):
    (nobody / "netrc").write_text("machine\n")
    assert not logged_in()
    assert "cannot be read" in caplog.text


def test_online_is_asked_for_without_a_login(nobody):
    about = About(stage="s", label="l", signature="0", logs=nobody, name="n", config={})
    with pytest.raises(UserError, match="needs a login.*WANDB_API_KEY"):
        WandbRuns(**{**SETTINGS, "mode": "online"}).open(about)


def test_disabled_is_as_if_it_were_not_named():
    node = {"_target_": "adasid_exp.stages.wandb_runs.WandbRuns", **SETTINGS}
    on, off = ({"wandb": {**node, "mode": mode}} for mode in ("offline", "disabled"))
    about = About(stage="s", label="l", signature="0", logs=Path(), name="n", config={})
    assert [type(found) for found in recorders(OmegaConf.create({"logger": on}))] == [WandbRuns]
    assert recorders(OmegaConf.create({"logger": off})) == []
    assert training_loggers(OmegaConf.create({"logger": off}), about) == []


def test_an_unknown_mode_is_named():
    with pytest.raises(UserError, match="onlin is unknown; it can be online, offline, disabled"):
        WandbRuns(**{**SETTINGS, "mode": "onlin"})


@pytest.mark.slow
def test_a_server_that_never_answers_costs_seconds_once_and_runs_are_kept(tmp_path):
    """A socket that accepts and is silent is the worst network: nothing fails by itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", ALONE, json.dumps(SETTINGS), str(tmp_path)],
            env={**as_nobody(tmp_path, tmp_path), "WANDB_BASE_URL": url, "WANDB_API_KEY": "x" * 40},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    *modes, seconds = done.stdout.split()
    assert modes == ["offline", "offline"], done.stderr
    assert float(seconds) < 30  # 1 s each for login and init, a retry, and a busy machine
    (line,) = [line for line in done.stderr.splitlines() if "did not take the run" in line]
    assert url in line
    assert "wandb sync" in line
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2


@pytest.mark.slow
def test_of_two_ranks_one_speaks_and_what_follows_goes_on_with_its_run(tmp_path):
    """The first rank logs the training, the parent the artifact: two parts of one run, which `wandb sync` joins."""
    done = subprocess.run(
        command("stage=behave", "trainer=ddp", "trainer.devices=2", "logger=wandb", *MICRO),
        env=as_nobody(tmp_path, tmp_path),
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parts = [run for run in read_all(tmp_path) if run.run["job_type"] == "behave"]
    assert len({part.run["run_id"] for part in parts}) == 1
    training, artifact = parts
    steps = [row["trainer/global_step"] for row in training.history if "train/loss" in row]
    assert len(steps) == len(set(steps)) == 2  # each epoch once
    assert not [row for row in artifact.history if "train/loss" in row]
    assert not training.outputs
    assert set(artifact.outputs) == {artifact.signature}
    assert {part.run["run_group"] for part in parts} == {"toy-ada_sid"}


@pytest.mark.slow
def test_the_table_of_a_grid_and_its_figures_reach_wandb_under_the_grids_name(tmp_path):
    results = tmp_path / "results"
    done = subprocess.run(
        command("stage=reproduce", "stage.grid=table1", f"stage.results={results}", "logger=[csv,wandb]", *MICRO),
        env=as_nobody(tmp_path, tmp_path),
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = read_all(tmp_path)
    assert {run.run["run_group"] for run in found} == {"table1"}
    (report,) = [run for run in found if run.run["job_type"] == "reproduce"]
    shown = json.loads((report.folder / "files" / report.summary["table/table1"]["path"]).read_text())
    printed = (results / "table1.csv").read_text().splitlines()
    assert shown["columns"] == printed[0].split(",")
    assert len(shown["data"]) == len(printed) - 1
    (users,) = [row[shown["columns"].index("size/users")] for row in shown["data"][:1]]
    assert users == 150  # MICRO asks for so many
    (figure,) = [value for name, value in report.summary.items() if name.startswith("figure/")]
    assert (report.folder / "files" / figure["path"]).stat().st_size > 5000
    assert set(report.inputs) == {run.signature for run in found if run.run["job_type"] == "describe"}


def test_without_the_logger_wandb_is_not_even_imported(tmp_path):
    """It costs seconds and threads; only who asks for it pays."""
    code = "import sys, adasid_exp.stages.retrieve, adasid_exp.stages.dashboards; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=as_nobody(tmp_path, tmp_path), capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert not {"wandb", "wandb_workspaces"} & set(loaded)
