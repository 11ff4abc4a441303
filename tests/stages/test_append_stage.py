"""`stage=append_sids` as a user runs it: published rows stay, an item that is there already is one line."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.artifacts.store import Store
from adasid_exp.stages.schedule import stage_of
from adasid_exp.stages.tokenize import trained_with_items
from conftest import MICRO

BALANCED = ("tokenizer=rq_kmeans_balanced", *MICRO)
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


@pytest.mark.slow
def test_new_items_do_not_inherit_the_clusters_of_those_with_their_number(adasid: Callable, tmp_path: Path) -> None:
    # Reference: the nearest centroid level by level, over the catalogue's last items, given as if they were new.
    published = SemanticIds.load(where(adasid("stage=assign", *BALANCED, runs=tmp_path)))
    folder = tmp_path / "new"
    folder.mkdir()
    pl.DataFrame({"item_id": ["n1", "n2", "n3"]}).write_parquet(folder / "items.parquet")
    vectors = {}
    for modality in ("text", "vision"):
        vectors[modality] = np.load(next((tmp_path / "embed").glob(f"*-{modality}-*")) / "vectors.npy")[-3:]
        np.save(folder / f"{modality}.npy", vectors[modality])
    both = SemanticIds.load(where(adasid("stage=append_sids", f"stage.new_items={folder}", *BALANCED, runs=tmp_path)))
    assert not np.array_equal(both.codes[-3:], published.codes[:3])
    stage = stage_of(("stage=append_sids", f"stage.new_items={folder}", *BALANCED, f"runs={tmp_path}"))
    inputs = {role: each.ensure(Store(tmp_path)) for role, each in stage.upstream.items()}
    model, items = trained_with_items(stage.cfg, stage.task, inputs)
    batch = items.batch(np.arange(len(published.codes) - 3, len(published.codes)))
    residual, expected = model.vectors(batch), []
    for words in model.clusters.words:
        nearest = torch.cdist(residual, words).argmin(1)
        expected.append(nearest)
        residual = residual - words[nearest]
    np.testing.assert_array_equal(both.codes[-3:], torch.stack(expected, 1).numpy())
