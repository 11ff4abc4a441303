"""docs/add-a-modality.md, followed to the letter in a copy of the tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from following import MICRO, PYTHON, TOY, copy_with_files_of, folders_of, page, run

from adasid_exp.commands.options import Conf

PAGE = page("add-a-modality.md")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_with_files_of(PAGE, tmp_path_factory.mktemp("project"))


def test_the_page_names_an_encoder_its_yamls_and_its_test() -> None:
    assert folders_of(PAGE) == [
        "conf/modalities", "src/adasid_exp/encoders", "conf/encoder", "conf/modalities", "tests/encoders",
    ]  # fmt: skip


def test_its_options_appear_in_the_help(tree: Path) -> None:
    conf = Conf(tree / "conf")
    assert "How titles are spelt" in {option.name: option.line for option in conf.groups["encoder"]}["spelling"]
    assert "encoder@modalities.spelling.encoder" in conf.places["encoder"]


@pytest.mark.slow
def test_its_own_test_holds(tree: Path) -> None:
    said = run(tree, "pytest", "-p", "no:xdist", "--noconftest", "-rA", "tests/encoders/test_spelling.py")
    assert said.returncode == 0, said.stdout
    assert said.stdout.count("PASSED") == 1


@pytest.mark.slow
def test_sids_are_learnt_from_it(tree: Path) -> None:
    assert "adasid run stage=assign data=toy modalities=text_spelling" in PAGE
    said = run(tree, "adasid_exp", "stage=assign", "modalities=text_spelling", *TOY, *MICRO)
    assert said.returncode == 0, said.stderr
    folder = next((tree / "runs" / "assign").iterdir())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"text", "spelling", "behavior"} <= set(manifest["facts"]["modalities"])
    embedded = json.loads(next((tree / "runs" / "embed").glob("*spelling*/manifest.json")).read_text())
    assert embedded["facts"]["dim"] == 64  # as the yaml says


def test_an_array_is_saved_as_the_page_says(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    exec(PYTHON.search(PAGE)["text"], {})  # type: ignore[index]
    assert (tree / "data" / "shop" / "audio_clap.npy").is_file()
