"""Nothing that learns sees held-out interactions: change them, and no byte upstream of the evaluation moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from adasid_exp.artifacts.store import Manifest
from adasid_exp.data.raw import RawTables
from adasid_exp.stages.base import without
from adasid_exp.stages.locations import CONF
from conftest import MICRO

LEARNT = ("behave", "tokenize", "assign")
READERS = "tokenizer=ada_sid,letter,das,rq_kmeans"
"""Every way in which a tokenizer reads interactions: behavior embeddings, counts, drawn pairs, neighborhoods."""

AS_TABLES = ("data=tables", "scale=toy", "modalities=toy", *[o for o in MICRO if not o.startswith("data")])


def toy() -> RawTables:
    node = OmegaConf.load(CONF / "data" / "toy.yaml")
    node.merge_with({"users": 150, "items": 80, "classes": 8})
    return instantiate(without(node, "name", "minimum_interactions")).read()


def write(raw: RawTables, interactions: pl.DataFrame, folder: Path) -> Path:
    folder.mkdir()
    interactions.write_parquet(folder / "interactions.parquet")
    raw.items.write_parquet(folder / "items.parquet")
    for name in ("text", "vision"):
        np.save(folder / f"{name}.npy", raw.arrays[name])
    return folder


def other_items(interactions: pl.DataFrame, rows: np.ndarray) -> pl.DataFrame:
    """The same rows, but those of ``rows`` name another item and the opposite label."""
    ids = interactions["item_id"].unique().sort().to_list()
    successor = dict(zip(ids, ids[1:] + ids[:1], strict=True))
    changed = pl.Series("changed", np.isin(np.arange(len(interactions)), rows))
    return interactions.with_columns(
        pl.when(changed)
        .then(pl.col("item_id").replace_strict(successor))
        .otherwise(pl.col("item_id"))
        .alias("item_id"),
        pl.when(changed).then(~pl.col("liked")).otherwise(pl.col("liked")).alias("liked"),
    )


def last_of_each_user(interactions: pl.DataFrame) -> np.ndarray:
    """Reference: one maximum a user, written without the project's split."""
    numbered = interactions.with_row_index("row")
    last = numbered.filter(pl.col("position") == pl.col("position").max().over("user_id"))
    return last["row"].to_numpy()


def last_tenth_labelled(interactions: pl.DataFrame) -> np.ndarray:
    """Labelled rows after the 90 % point in time; the day of the cut is left alone."""
    numbered = interactions.with_row_index("row").filter(pl.col("liked").is_not_null()).sort("timestamp")
    cut = numbered["timestamp"][int(0.9 * len(numbered))]
    return numbered.filter(pl.col("timestamp") > cut)["row"].to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize(("task", "held_out"), [("retrieval", last_of_each_user), ("ranking", last_tenth_labelled)])
def test_changing_the_test_interactions_moves_no_byte_of_what_was_learnt(
    task: str, held_out: Callable, adasid: Callable, tmp_path: Path
) -> None:
    raw = toy()
    rows = held_out(raw.interactions)
    assert len(rows) >= 100
    digests = []
    for name, interactions in (("true", raw.interactions), ("changed", other_items(raw.interactions, rows))):
        folder = write(raw, interactions, tmp_path / name)
        runs = tmp_path / f"runs-{name}"
        said = adasid("-m", "stage=assign", READERS, f"task={task}", *AS_TABLES, f"data.root={folder}", runs=runs)
        assert said.returncode == 0, said.stderr
        made = [Manifest.load(path) for stage in (*LEARNT, "prepare") for path in (runs / stage).glob("*-*")]
        digests.append({(manifest.stage, manifest.label): manifest.files for manifest in made})
    before, after = digests
    assert before.keys() == after.keys()
    assert len(before) == 2 + 2 * len(READERS.split(","))
    for (stage, label), files in before.items():
        if stage == "prepare":
            assert files != after[stage, label]  # the change did reach the data set
        else:
            assert files == after[stage, label], (stage, label)
