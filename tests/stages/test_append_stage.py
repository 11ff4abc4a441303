"""`stage=append_sids` as a user runs it: published rows stay, an item that is there already is one line."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.semantic_ids import SemanticIds
from conftest import MICRO

METHOD = ("tokenizer=ada_sid", "collisions=nearest_free", *MICRO)


def where(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    return Path(re.findall(r" is in (\S+)", done.stderr)[-1])


def new_items(folder: Path, runs: Path, ids: list[str]) -> Path:
    """Items that look like the first ones of the catalogue."""
    folder.mkdir()
    pl.DataFrame({"item_id": ids}).write_parquet(folder / "items.parquet")
    for modality in ("text", "vision"):
        vectors = next((runs / "embed").glob(f"*-{modality}-*")) / "vectors.npy"
        np.save(folder / f"{modality}.npy", np.load(vectors)[: len(ids)] * 1.01)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_new_items_join_published_ones(adasid: Callable, tmp_path: Path) -> None:
    published = SemanticIds.load(where(adasid("stage=assign", *METHOD, runs=tmp_path)))
    folder = new_items(tmp_path / "new", tmp_path, ["n1", "n2", "n3"])
    both = SemanticIds.load(where(adasid("stage=append_sids", f"stage.new_items={folder}", *METHOD, runs=tmp_path)))
    assert both.item_ids.tolist() == [*published.item_ids.tolist(), "n1", "n2", "n3"]
    np.testing.assert_array_equal(both.codes[:-3], published.codes)
    np.testing.assert_array_equal(both.weights[:-3], published.weights)
    known = new_items(tmp_path / "known", tmp_path, ["n4", str(published.item_ids[5])])
    refused = adasid("stage=append_sids", f"stage.new_items={known}", *METHOD, runs=tmp_path)
    assert refused.returncode == 2
    assert f"row 2: item {published.item_ids[5]} has a published SID" in refused.stderr.splitlines()[-1]
