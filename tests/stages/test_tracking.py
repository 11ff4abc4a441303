"""A sweep with all loggers, offline, read back from what wandb wrote: one group, lineage, curves, media, the table."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
import wandb

from adasid_exp.artifacts.store import Manifest, Store
from adasid_exp.stages import tracking
from adasid_exp.stages.schedule import stage_of
from conftest import MICRO, command, environment

ALPHA, BETA = (10, 20), (7, 9, 14)
CORE = Path(wandb.__file__).parent / "bin" / "wandb-core"


def as_nobody(runs: Path, home: Path) -> dict[str, str]:
    """The environment of a person without a login; bytecode is kept: importing costs more than these trainings."""
    inherited = {name: value for name, value in environment(runs).items() if not name.startswith("WANDB_")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    kept = Path(tempfile.gettempdir()) / f"adasid-bytecode-{os.getuid()}"
    return {**inherited, "HOME": str(home), "NETRC": str(home / ".netrc"), "PYTHONPYCACHEPREFIX": str(kept)}


@dataclass
class Read:
    """One run of wandb's, as `wandb leet inspect` tells it."""

    folder: Path
    run: dict
    summary: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    metrics: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)

    @property
    def signature(self) -> str:
        return self.run["run_id"].rpartition("-")[2]


def records(path: Path, *more: str) -> str:
    tool = [str(CORE), "leet", "inspect", "-json", "-no-observability", *more, "-run-file", str(path)]
    return subprocess.run([*tool, str(path.parent.parent)], capture_output=True, text=True, check=True).stdout


def read(path: Path) -> Read:
    lines = [json.loads(line) for line in records(path).splitlines()]
    found = Read(folder=path.parent, run=next(line["run"] for line in lines if line["type"] == "run"))
    found.summary = json.loads(records(path, "-summary"))["summary"]
    for line in lines:
        if line["type"] == "history":
            found.history.append(line["history"]["item"])
        elif line["type"] == "metric":
            found.metrics[line["metric"].get("glob_name") or line["metric"]["name"]] = line["metric"]
        elif line["type"] == "artifact" and not line["artifact"]["name"].startswith("run-"):
            artifact = line["artifact"]
            signature = next(alias for alias in artifact["aliases"] if alias != "latest")
            (found.inputs if artifact.get("use_after_commit") else found.outputs)[signature] = artifact
    return found


def read_all(runs: Path) -> list[Read]:
    return [read(path) for path in sorted((runs / "logs" / "wandb").glob("offline-run-*/*.wandb"))]


@dataclass(frozen=True)
class Swept:
    runs: Path
    home: Path
    said: str
    found: dict[str, list[Read]]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Swept:
    """2 x 3 points of one small model; everything upstream of the tokenizer is shared."""
    root = tmp_path_factory.mktemp("sweep")
    runs, home = root / "runs", root / "home"
    home.mkdir()
    points = [f"tokenizer.align.alpha={','.join(map(str, ALPHA))}", f"tokenizer.align.beta={','.join(map(str, BETA))}"]
    done = subprocess.run(
        command("-m", "stage=retrieve", "logger=[csv,tensorboard,wandb]", *points, *MICRO),
        env=as_nobody(runs, home),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Read]] = {}
    for run in read_all(runs):
        found.setdefault(run.run["job_type"], []).append(run)
    return Swept(runs=runs, home=home, said=done.stderr, found=found)


def test_every_artifact_has_one_run_and_all_are_in_the_sweeps_group(swept):
    assert {stage: len(runs) for stage, runs in swept.found.items()} == {
        "prepare": 1, "embed": 2, "behave": 1, "tokenize": 6, "assign": 6, "retrieve": 6, "sweep": 1,
    }  # fmt: skip
    (folder,) = (swept.runs / "sweeps").iterdir()
    assert {run.run["run_group"] for runs in swept.found.values() for run in runs} == {f"sweep {folder.name}"}
    stored = [path.parent.name.rpartition("-")[2] for path in swept.runs.glob("*/*/manifest.json")]
    assert Counter(run.signature for name, runs in swept.found.items() if name != "sweep" for run in runs) == Counter(
        stored
    )


def test_lineage_is_that_of_the_manifests(swept):
    """Each run uses its inputs and gives its own artifact, with the digest that every other run speaks of."""
    manifests = {path.parent: Manifest.load(path.parent) for path in swept.runs.glob("*/*/manifest.json")}
    by_signature = {manifest.signature: manifest for manifest in manifests.values()}
    digest = {}
    for stage, runs in swept.found.items():
        for run in runs:
            for signature, artifact in [*run.inputs.items(), *run.outputs.items()]:
                assert digest.setdefault(signature, artifact["digest"]) == artifact["digest"]
                assert artifact["name"] == f"{by_signature[signature].stage}-{by_signature[signature].label}"
                assert json.loads(artifact["metadata"])["signature"] == signature
            if stage != "sweep":
                assert set(run.inputs) == set(by_signature[run.signature].inputs.values())
                assert set(run.outputs) == {run.signature}
    (sweep,) = swept.found["sweep"]
    assert set(sweep.inputs) == {run.signature for run in swept.found["retrieve"]}
    produced = {signature for runs in swept.found.values() for run in runs for signature in run.outputs}
    assert set(digest) == produced  # the chain has no gap


def test_sid_tables_are_uploaded_whole_and_models_are_not(swept):
    for run in swept.found["assign"]:
        files = {entry["path"]: entry for entry in run.outputs[run.signature]["manifest"]["contents"]}
        (folder,) = (swept.runs / "assign").glob(f"*-{run.signature}")
        assert set(files) == {path.name for path in folder.iterdir()}
        assert pl.read_parquet(files["sids.parquet"]["local_path"]).equals(pl.read_parquet(folder / "sids.parquet"))
    model = swept.found["tokenize"][0]
    artifact = model.outputs[model.signature]
    assert [entry["path"] for entry in artifact["manifest"]["contents"]] == ["manifest.json"]
    assert "model.safetensors" in json.loads(artifact["metadata"])["files"]


def test_curves_have_their_axis_and_summaries_say_best_and_last_as_the_csv_does(swept):
    for run in swept.found["retrieve"]:
        (path,) = (swept.runs / "logs" / "retrieve").glob(f"*-{run.signature}/metrics.csv")
        logged = pl.read_csv(path)
        curve = logged["val/ndcg@50"].drop_nulls()
        assert run.summary["val/ndcg@50"] == pytest.approx({"max": curve.max(), "last": curve[-1]}, rel=1e-6)
        loss = logged["train/loss"].drop_nulls()
        assert run.summary["train/loss"] == pytest.approx({"min": loss.min(), "last": loss[-1]}, rel=1e-6)
        (folder,) = (swept.runs / "retrieve").glob(f"*-{run.signature}")
        figures = json.loads((folder / "metrics.json").read_text())
        tests = {name: value for name, value in figures.items() if name.startswith("test/")}
        assert {name: run.summary[name] for name in tests} == pytest.approx(tests, rel=1e-6)
        assert run.metrics["val/ndcg*"]["step_metric"] == "epoch"
        assert run.metrics["train/*"]["step_metric"] == "trainer/global_step"
        assert [row["epoch"] for row in run.history if "val/ndcg@50" in row] == logged.filter(
            pl.col("val/ndcg@50").is_not_null()
        )["epoch"].to_list()
    for run in swept.found["assign"]:  # nothing trains there: its figures are told when it is done
        (folder,) = (swept.runs / "assign").glob(f"*-{run.signature}")
        figures = json.loads((folder / "metrics.json").read_text())
        assert {name: run.summary[name] for name in figures} == pytest.approx(figures, rel=1e-6)


def test_strengths_are_logged_by_bucket(swept):
    for run in swept.found["tokenize"]:
        rows = [row for row in run.history if "train/lambda_1" in row]
        assert len(rows) == 12  # an epoch each
        buckets = {name for name in rows[-1] if name.startswith("train/lambda_")}
        assert buckets == {f"train/lambda_{place + 1}" for place in range(len(buckets))}
        assert len(buckets) > 1
        assert any(rows[0][name] != rows[-1][name] for name in buckets)  # the controller has moved some


def test_configs_and_names_tell_points_apart(swept):
    for stage in ("tokenize", "assign", "retrieve"):
        points = set()
        for run in swept.found[stage]:
            align = run.run["config"]["update"]["tokenizer"]["align"]
            points.add((align["alpha"], align["beta"]))
            assert f"align.alpha={align['alpha']} align.beta={align['beta']}" in run.run["display_name"]
            assert run.run["config"]["update"]["override"]["tokenizer.align.alpha"] == str(align["alpha"])
        assert points == {(alpha, beta) for alpha in ALPHA for beta in BETA}
    assert all("align" not in run.run["display_name"] for run in swept.found["behave"])  # it does not depend on it


def test_pictures_are_there_and_not_empty(swept):
    wanted = {
        "assign": {"media/codebook_usage", "media/slots_by_popularity", "media/alignment_weight"},
        "tokenize": {"media/codewords"},
    }
    for stage, names in wanted.items():
        for run in swept.found[stage]:
            shown = {name: value for name, value in run.summary.items() if name.startswith("media/")}
            assert set(shown) == names
            for value in shown.values():
                path = run.folder / "files" / value["path"]
                assert path.read_bytes().startswith(b"\x89PNG")
                assert value["width"] > 300
                assert path.stat().st_size > 5000


def test_tensorboard_has_curves_and_pictures(swept):
    events = {
        stage: b"".join(path.read_bytes() for path in (swept.runs / "logs" / stage).glob("*/events.out*"))
        for stage in ("assign", "tokenize", "retrieve")
    }
    assert all(name in events["assign"] for name in (b"media/codebook_usage", b"media/alignment_weight"))
    assert all(name in events["tokenize"] for name in (b"media/codewords", b"train/lambda_1", b"train/total"))
    assert b"val/ndcg@50" in events["retrieve"]


def test_the_table_of_the_sweep_is_in_its_folder_and_with_wandb(swept):
    (path,) = (swept.runs / "sweeps").glob("*/sweep.csv")
    table = pl.read_csv(path)
    columns = ["tokenizer.align.alpha", "tokenizer.align.beta"]
    assert table.select(columns).rows() == [(alpha, beta) for alpha in ALPHA for beta in BETA]
    assert table["objective"].to_list() == table["val/ndcg@50"].to_list()
    (sweep,) = swept.found["sweep"]
    shown = json.loads((sweep.folder / "files" / sweep.summary["table/sweep"]["path"]).read_text())
    assert shown["columns"] == table.columns
    assert pl.DataFrame(shown["data"], schema=table.columns, orient="row").equals(table)
    of = {run.run["display_name"]: run.summary["test/recall@50"] for run in swept.found["retrieve"]}
    for alpha, beta, recall in table.select(*columns, "test/recall@50").rows():
        (value,) = (value for name, value in of.items() if f"alpha={alpha:g} align.beta={beta:g}" in name)
        assert value == pytest.approx(recall, rel=1e-6)


def test_home_stays_clean_and_one_line_says_where_runs_are(swept):
    assert not list(swept.home.rglob("*wandb*"))
    told = [line for line in swept.said.splitlines() if "wandb" in line and "logger=" not in line]
    assert len(told) == 1
    assert "no login found" in told[0]
    assert f"wandb sync {swept.runs / 'logs' / 'wandb'}/offline-run-*" in told[0]


class Heard:
    """A tracker that remembers what it was told."""

    def __init__(self, known=()):
        self.known, self.told, self.closed = set(known), [], []

    def open(self, about):
        return None

    def record(self, about, outcome):
        self.told.append((about.stage, about.signature, {source.signature for source in outcome.inputs}))
        self.metrics = outcome.metrics

    def close(self, *, failed):
        self.closed.append(failed)

    def holds(self, about):
        return about.stage in self.known


def test_what_was_found_is_told_inputs_first_unless_it_was_before(swept, monkeypatch):
    """A finished run asked for again: nothing is made, but its lineage must not have a gap."""
    point = ("stage=retrieve", "tokenizer.align.alpha=10", "tokenizer.align.beta=7", f"runs={swept.runs}", *MICRO)
    stage, store = stage_of(point), Store(swept.runs)
    heard = Heard(known={"prepare", "embed"})
    monkeypatch.setattr(tracking, "recorders", lambda cfg: [heard])
    monkeypatch.setattr(tracking, "_told", set())
    tracking.complete(stage, store)
    assert [name for name, *_ in heard.told] == ["behave", "tokenize", "assign", "retrieve"]
    for name, signature, inputs in heard.told:
        (folder,) = (swept.runs / name).glob(f"*-{signature}")
        assert inputs == set(Manifest.load(folder).inputs.values())
    figures = json.loads((store.find("retrieve", stage.signature) / "metrics.json").read_text())
    assert heard.metrics == figures  # its training told them to nobody who listens now
    tracking.complete(stage, store)
    assert len(heard.told) == 4


def test_a_stage_that_fails_ends_its_run_as_failed(swept, monkeypatch):
    heard = Heard()
    monkeypatch.setattr(tracking, "recorders", lambda cfg: [heard])
    stage = stage_of(("stage=retrieve", f"runs={swept.runs}", *MICRO))
    with pytest.raises(KeyboardInterrupt), tracking.tracked(stage, apart=False):
        raise KeyboardInterrupt
    with tracking.tracked(stage, apart=False):
        pass
    assert heard.closed == [True, False]
    assert not heard.told
