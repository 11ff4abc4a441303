"""`adasid`: which stage each word stands for, what its help says, what Tab completes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from adasid_exp.commands import data, forward, table
from adasid_exp.commands.adasid import COMMANDS, dispatch
from adasid_exp.commands.arguments import quoted
from adasid_exp.commands.completion import BASH, answers
from adasid_exp.commands.options import Conf, first_sentence
from adasid_exp.stages.locations import CONF, EXPERIMENTS

NO_TORCH = (
    "import sys; from adasid_exp.commands.adasid import dispatch; dispatch(sys.argv[1:]); print('torch' in sys.modules)"
)


def test_each_word_stands_for_a_stage() -> None:
    assert forward.inspect(["a b.json", "data=toy"]) == ["stage=inspect", "sids='a b.json'", "data=toy"]
    assert forward.inspect(["tokenizer=rq_vae"]) == ["stage=inspect", "tokenizer=rq_vae"]
    assert forward.export(["model", "seed=1"]) == ["stage=export_model", "seed=1"]
    assert forward.report([]) == ["stage=report"]
    assert data.overrides_of(["simulate", "1000"]) == ["stage=simulate_logs", "stage.simulator.events=1000"]
    assert data.overrides_of(["prepare", "toy", "seed=1"]) == ["stage=prepare", "data=toy", "seed=1"]
    asked = ["table2", "--data", "toy", "--methods", "rq_vae,opq", "--parts", "retrieval", "--seeds", "0,1"]
    assert table.overrides_of([*asked, "--jobs", "2", "tokenizer.width=3"]) == [
        "stage=reproduce", "stage.grid=table2", "data=toy", "stage.methods=[rq_vae,opq]", "stage.parts=[retrieval]",
        "stage.seeds=[0,1]", "stage.jobs=2", "tokenizer.width=3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"), [("events/a", "logs"), ("meta_Beauty.json.gz", "beauty"), ("interactions.csv", "tables")]
)
def test_data_is_known_by_the_names_in_its_folder(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert table.data_overrides(str(tmp_path))[0] == f"data={kind}"
    assert table.data_overrides(f"logs:{tmp_path}")[0] == "data=logs"


@pytest.mark.parametrize("text", ["/a/b-c.parquet", "it's, [odd] {x}: =y", "a\\b", ""])
def test_a_path_passes_hydras_grammar_unchanged(text: str) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        assert compose("config", overrides=[f"sids={quoted(text)}"]).sids == text


def test_every_option_has_a_line() -> None:
    missing = [path.relative_to(CONF) for path in CONF.rglob("*/*.yaml") if not first_sentence(path)]
    assert missing == []


def test_the_help_shows_every_group_option_and_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["run", "--help"]) == 0
    said = capsys.readouterr().out
    conf = Conf(CONF)
    for group, options in conf.groups.items():
        assert f"{group} " in said
        for option in options:
            assert f" {option.name} " in said
    for key in conf.keys:
        assert f"{key.name}=" in said
    assert "* ada_sid" in said  # the default is marked
    assert "align@tokenizer.align=" in said  # and how a nested group is chosen


def test_what_the_help_says_can_be_chosen() -> None:
    # Reference: Hydra's own record of what it chose where.
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        cfg = compose("config", return_hydra_config=True)
    there = {str(name) for name in cfg.hydra.runtime.choices if not str(name).startswith("hydra")}
    places = {place for each in Conf(CONF).places.values() for place in each}
    assert there <= places


def test_help_needs_no_torch_and_lists_the_commands() -> None:
    for words in ([], ["run", "--help"], ["table"]):
        run = subprocess.run([sys.executable, "-c", NO_TORCH, *words], capture_output=True, text=True, check=True)
        assert run.stdout.splitlines()[-1] == "False"
        assert words or all(f"  {name} " in run.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("adasid r", ["report", "run"]),
        ("adasid export ", ["model", "sids"]),
        ("adasid run tokenizer=rq_v", ["tokenizer=rq_vae", "tokenizer=rq_vae_pp"]),
        ("adasid run tokenizer=rq_vae tokenizer.code", ["tokenizer.codebook."]),
        ("adasid run tokenizer.align.al", ["tokenizer.align.alpha="]),
        ("adasid run align@tokenizer.align=", [f"align@tokenizer.align={x}" for x in ("adaptive", "none", "uniform")]),
        ("adasid stage=retr", ["stage=retrieve"]),
        ("adasid table figure", ["figure3", "figure4", "figure5"]),
        ("adasid table table2 --me", ["--methods"]),
        ("adasid table table2 --data to", ["toy"]),
        ("adasid data v", ["validate"]),
    ],
)
def test_tab_completes(line: str, expected: list[str]) -> None:
    assert answers(line) == expected


def test_tab_completes_paths(tmp_path: Path) -> None:
    (tmp_path / "teas").mkdir()
    assert answers(f"adasid data validate {tmp_path}/t") == [f"{tmp_path}/teas/"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_takes_the_answers(tmp_path: Path) -> None:
    # Bash itself, with a stand-in that answers at once: what stands before the last = is on the line already.
    stand_in = tmp_path / "adasid"
    stand_in.write_text("#!/bin/sh\nprintf 'tokenizer=rq_vae\\ntokenizer=rq_vae_pp\\n'\n")
    stand_in.chmod(0o755)
    script = (
        f'{BASH}\nCOMP_LINE="adasid run tokenizer=rq"; COMP_POINT=${{#COMP_LINE}}; _adasid; echo "${{COMPREPLY[@]}}"'
    )
    said = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert said.stdout.split() == ["rq_vae", "rq_vae_pp"]


def test_the_grids_are_listed_with_their_titles() -> None:
    listed = table.listed()
    assert all(f"  {path.stem} " in listed for path in EXPERIMENTS.glob("*.yaml"))
