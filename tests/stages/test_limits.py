"""Numbers that no run survives are one line before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from adasid_exp.artifacts.files import folder_at
from adasid_exp.artifacts.store import Store
from adasid_exp.stages.schedule import stage_of
from adasid_exp.stages.tokenize import Tokenize
from adasid_exp.types import UserError

ASKED = ("data=toy", "stage=tokenize", "tokenizer=rq_vae")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tokenizer.fit.batch_size=0", "tokenizer.fit.batch_size=0: a whole number of at least 1 is needed"),
        ("tokenizer.fit.epochs=-1", "tokenizer.fit.epochs=-1: a whole number of at least 0"),  # Lightning: for ever
        ("tokenizer.fit.module.learning_rate=-1", "tokenizer.fit.module.learning_rate=-1: a number above 0"),
        ("tokenizer.fit.module.learning_rate=null", "tokenizer.fit.module.learning_rate=null: a number above 0"),
        ("scale.codebook_size=2.5", "scale.codebook_size=2.5: a whole number"),
        ("scale.length=0", "scale.length=0: a whole number of at least 1"),
        ("task=rnaking", "task=rnaking: there are retrieval and ranking"),
        ("seed=null", "seed=null: a whole number of at least 0"),
        ("seed=-1", "seed=-1: a whole number of at least 0"),
    ],
)
def test_it_is_said_with_its_key(override: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        stage_of((*ASKED, override))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_closed_forms_need_no_rate() -> None:
    assert isinstance(stage_of(("data=toy", "stage=tokenize", "tokenizer=opq")), Tokenize)


def test_a_trainer_that_is_not_here_is_one_line(tmp_path: Path) -> None:
    for asked in ("trainer.precision=7", "trainer.accelerator=abacus"):
        stage = stage_of((*ASKED, "data.users=150", "data.items=80", "data.classes=8", asked, f"runs={tmp_path}"))
        with pytest.raises(UserError, match="trainer: .*trainer=cpu runs anywhere") as caught:
            stage.run(Store(tmp_path))
        assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_named_with_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"stage.results: cannot write to .*file/results .*name a folder you own"):
        folder_at(tmp_path / "file" / "results", "stage.results")
    assert folder_at(tmp_path / "a" / "b", "stage.results").is_dir()
