"""What people mistype, and the one line they get: what, where, the nearest name."""

from __future__ import annotations

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from adasid_exp.commands.adasid import dispatch
from adasid_exp.commands.hydra_line import run_hydra
from adasid_exp.commands.mistakes import wrong_types
from adasid_exp.types import UserError


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's command line reads and we set the process's arguments; compositions of other tests are forgotten."""
    monkeypatch.setattr(sys, "argv", ["adasid"])
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("tokeniser=ada_sid", ["no key tokeniser", "did you mean tokenizer?"]),
        ("tokenizer=ada_sd", ["no such option of tokenizer", "did you mean ada_sid?"]),
        ("tokenizer.align.alhpa=3", ["tokenizer.align has no key alhpa", "did you mean tokenizer.align.alpha?"]),
        ("align.alpha=3", ["did you mean tokenizer.align.alpha?"]),
        ("align=none", ["did you mean align@tokenizer.align=none?"]),
        ("align@tokenizer.aling=none", ["did you mean align@tokenizer.align=none?"]),
        ("retrieve", ["no value", "did you mean stage=retrieve?"]),
        ("sede=3", ["did you mean seed?"]),
        ("seed.x=3", ["seed is a value"]),
        ("+seed=4", ["seed=4"]),
        ("tokenizer=ada_sid,rq_vae", ["several values", "-m"]),
        ("-m tokenizer=rq_vae,ada_sd", ["tokenizer=ada_sd", "did you mean ada_sid?"]),
        ("tokenizer=rq_vae ablation=no_router", ["ablation=no_router", "router@tokenizer.router"]),
        ("hydra/launcher=submitit_slurm", ['pip install "adasid-exp[slurm]"']),
        ("a[=b", ["cannot be read"]),
        ("--colour", ["no such flag"]),
        ("--multrun", ["did you mean --multirun?"]),
        ("--config-dir", ["expected one argument"]),
    ],
)
def test_what_does_not_compose_is_one_line_with_the_nearest_name(
    line: str, named: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_hydra(line.split()) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    for words in named:
        assert words in said.err


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["seed=abc"], "seed: abc is no value for it, a whole number is wanted (the default is 0)"),
        (["seed=1.5"], "a whole number"),
        (["seed="], "a whole number"),
        (["tokenizer.align.alpha=abc"], "tokenizer.align.alpha: abc is no value for it, a number is wanted"),
        (["tokenizer.align.alpha=[1]"], "a number is wanted"),
        (["trainer.compile=3"], "true or false"),
        (["tokenizer.align=none"], "to choose its option: align@tokenizer.align=none"),
        (["stage=reproduce", "stage.seeds=0"], "did you mean stage.seeds=[0]?"),
    ],
)
def test_a_value_of_another_type_is_told_before_anything_runs(overrides: list[str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        wrong_types(overrides)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [["seed=3"], ["tokenizer.align.alpha=3"], ["progress=true"], ["sids=null"], ["tokenizer=rq_vae"],
     ["data=tables", "data.root=123"], ["scale.width={hidden:16,latent:16,code:8}"], ["+note=anything"]],
)  # fmt: skip
def test_values_that_fit_pass(overrides: list[str]) -> None:
    wrong_types(overrides)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tabel"], "did you mean `adasid table`?"),
        (["table", "table2", "--metods", "x"], "did you mean --methods?"),
        (["table", "table2", "--data", "/nonexistent"], "no folder /nonexistent"),
        (["table", "seed=1"], "name a grid"),
        (["export", "sid"], "did you mean sids?"),
        (["completion", "bush"], "did you mean bash?"),
        (["data", "prepair"], "did you mean prepare?"),
        (["data", "validate", "/nonexistent"], "no folder /nonexistent"),
        (["report", "x"], "KEY=VALUE"),
        (["run", "--help", "tokeniser"], "did you mean tokenizer?"),
    ],
)
def test_the_shorter_commands_answer_in_one_line_too(
    words: list[str], named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(words) == 2
    said = capfd.readouterr().err
    assert named in said
    assert len(said.splitlines()) == 1
