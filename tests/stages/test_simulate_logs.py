"""The stages `simulate_logs` and `prepare data=logs`, as the command runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from adasid_exp.artifacts.prepared_logs import PreparedLogs
from adasid_exp.artifacts.store import Manifest, Store
from adasid_exp.stages.locations import CONF
from adasid_exp.stages.prepare import Prepare
from adasid_exp.stages.simulate_logs import SimulateLogs
from adasid_exp.types import UserError

SMALL = [
    "stage.simulator.events=20000",
    "stage.simulator.events_per_shard=6000",
    "stage.simulator.world.users=500",
    "stage.simulator.world.items=300",
    "stage.simulator.world.classes=10",
]


def config(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", overrides=["data=logs", "progress=false", *overrides])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return SimulateLogs(config("stage=simulate_logs", *SMALL)).ensure(Store(tmp_path / "runs"))


def test_simulated_logs_are_prepared(raw: Path, tmp_path: Path) -> None:
    assert len(list((raw / "events").iterdir())) == 4
    stage = Prepare(config("stage=prepare", f"data.root={raw}", "data.minimum_interactions=5"))
    folder = stage.ensure(Store(tmp_path / "runs"))
    logs = PreparedLogs.load(folder)
    facts = Manifest.load(folder).facts
    assert facts["statistics"] == logs.about["statistics"]
    assert logs.users == facts["statistics"]["users"] > 100
    assert logs.counts().min() >= 5
    assert not list((tmp_path / "runs/.work").glob("*"))  # nothing is left lying about


def test_neither_engine_nor_memory_nor_bar_names_the_artifact(raw: Path) -> None:
    root = f"data.root={raw}"
    one = Prepare(config("stage=prepare", root)).signature
    same = config("stage=prepare", root, "engine=local", "engine.workers=3", "data.memory_gib=2", "progress=true")
    assert Prepare(same).signature == one
    assert Prepare(config("stage=prepare", root, "data.keep=64")).signature != one
    simulated = SimulateLogs(config("stage=simulate_logs", *SMALL)).signature
    assert SimulateLogs(config("stage=simulate_logs", "engine.workers=2", *SMALL)).signature == simulated


def test_a_folder_without_logs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no .parquet shard of events that can be read; set data.root"):
        Prepare(config("stage=prepare", f"data.root={tmp_path}")).ensure(Store(tmp_path / "runs"))
