"""Each example from an empty folder, in small: it ends, and what it prints are findings."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = (
    "scale.epochs={behavior:2,tokenizer:10,retriever:1,slots:1,ranker:1}",
    "scale.width={hidden:16,latent:16,code:8}",
    "scale.codebook_size=8",
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all, so that the second finds what the first made, as the pages say."""
    return tmp_path_factory.mktemp("empty")


@pytest.fixture
def example(empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a script as `python examples/NAME.py ARGUMENTS` does and returns what it printed."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.chdir(empty)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
        monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_training_on_your_own_parquet(example, empty: Path) -> None:
    said = example("train_ada_sid.py", *SMALL)
    assert "simulated" in said
    assert len(re.findall(r"tenth +\d+, +[\d.]+ interactions", said)) == 10
    shipped = pl.read_parquet(empty / "export" / "shop" / "v0001" / "sids.parquet")
    assert shipped["item_id"].to_list() == pl.read_parquet(empty / "shop" / "items.parquet")["item_id"].to_list()


def test_training_on_a_folder_that_is_given(example, empty: Path) -> None:
    # The made-up shop under another name stands for anyone's data; it brings a text array, so no encoder is needed.
    (empty / "shop").rename(empty / "mine")
    said = example("train_ada_sid.py", "mine", "~modalities.attributes", "scale=toy", *SMALL)
    assert "simulated" not in said
    assert (empty / "export" / "mine" / "v0001" / "sids.parquet").is_file()


def test_a_look_into_a_codebook(example) -> None:
    said = example("look_into_a_codebook.py", *SMALL)
    table = re.findall(r"^ +\d  (\w+) +(\d+)%   +(\d+) of 8", said, re.MULTILINE)
    assert [row[0] for row in table] == ["shared", "text", *["behavior"] * 5]
    agreement = {row[0]: int(row[1]) for row in re.findall(r"^ +\d  (\w+) +(\d+)% +\d+%$", said, re.MULTILINE)}
    # Planted: text tells an item's style, behavior follows the trend, which is independent of it.
    assert agreement["text"] > 2 * agreement["behavior"]


@pytest.mark.slow
def test_sids_in_a_ranker_of_ones_own(example) -> None:
    said = example("sids_in_your_ranker.py", *SMALL)
    found = {name: float(auc) for name, auc in re.findall(r"^(\w+) +(0\.\d+) \+- 0\.\d+ ", said, re.MULTILINE)}
    assert set(found) == {"id", "SID", "both"}
    assert all(0.52 < auc < 0.75 for auc in found.values())  # better than chance, and no leak of the labels
