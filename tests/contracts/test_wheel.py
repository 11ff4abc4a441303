"""The built wheel works outside the checkout, its configuration included."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from adasid_exp.stages.locations import CONF

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_wheel_holds_conf_and_experiments_and_runs_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    wheel = next((tmp_path / "dist").glob("*.whl"))
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shipped = {path.relative_to(site / "adasid_exp" / "conf") for path in (site / "adasid_exp/conf").rglob("*.yaml")}
    assert shipped == {path.relative_to(CONF) for path in CONF.rglob("*.yaml")}
    assert (site / "adasid_exp/experiments/table2.yaml").is_file()
    ran = subprocess.run(
        [sys.executable, "-m", "adasid_exp", "stage=prepare", "data=toy", "data.users=150", "data.items=80"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "ADASID_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / "runs/prepare").glob("toy-*/manifest.json"))) == 1
