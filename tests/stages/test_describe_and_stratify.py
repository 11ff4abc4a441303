"""The data's own figures, and a run's figures apart for head and tail."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from adasid_exp.stages.describe import length_figures, popularity_figures
from conftest import MICRO


def where(said: subprocess.CompletedProcess[str]) -> Path:
    assert said.returncode == 0, said.stderr
    found = re.search(r" is in (\S+)", said.stderr)
    assert found, said.stderr
    return Path(found[1])


def test_popularity_by_hand() -> None:
    # Ten items, one with 91 interactions and nine with 1: Gini = (sum over pairs |a-b|) / (2 n sum) = 9*90/(10*100).
    figures = popularity_figures(np.array([1] * 9 + [91]))
    assert figures["popularity_gini"] == pytest.approx(0.81)
    assert figures["top_10pct_share"] == pytest.approx(0.91)
    assert figures["item_count_median"] == 1
    assert popularity_figures(np.full(8, 3))["popularity_gini"] == pytest.approx(0.0)


def test_lengths_by_hand() -> None:
    assert length_figures(np.array([1, 2, 3, 4, 5])) == {"length_median": 3, "length_p95": 4.8, "length_max": 5}


@pytest.mark.slow
def test_strata_of_a_run_are_those_of_its_rows(adasid: Callable) -> None:
    # Reference: scikit-learn over the rows file, restricted to the items of the stratum.
    run = where(adasid("stage=rank", "representation=item_id", *MICRO))
    strata = where(adasid("stage=stratify_rank", "representation=item_id", *MICRO))
    metrics = json.loads((strata / "metrics.json").read_text())
    rows = pl.read_parquet(run / "rows.parquet")
    facts = json.loads((strata / "manifest.json").read_text())["facts"]
    surely = rows.filter(pl.col("item_count") > facts["largest_count_middle"])  # no tie at the border
    possibly = rows.filter(pl.col("item_count") >= facts["largest_count_middle"])
    assert len(surely) <= metrics["head/rows"] <= len(possibly)
    if len(surely) == metrics["head/rows"]:
        assert metrics["head/auc"] == pytest.approx(roc_auc_score(surely["label"], surely["score"]))


@pytest.mark.slow
def test_head_and_tail_users_are_parts_of_all(adasid: Callable) -> None:
    # Law: with strata of half the catalogue each, the users' mean is the whole run's.
    run = where(adasid("stage=retrieve", "retriever=item_knn", *MICRO))
    whole = json.loads((run / "metrics.json").read_text())
    asked = ("stage=stratify_retrieve", "retriever=item_knn", "stage.share=0.5", *MICRO)
    parts = json.loads((where(adasid(*asked)) / "metrics.json").read_text())
    users = parts["head/users"] + parts["tail/users"]
    for metric in ("recall@10", "ndcg@50"):
        mean = (parts[f"head/{metric}"] * parts["head/users"] + parts[f"tail/{metric}"] * parts["tail/users"]) / users
        assert mean == pytest.approx(whole[f"test/{metric}"], abs=1e-6)


@pytest.mark.slow
def test_data_describe_themselves(adasid: Callable) -> None:
    folder = where(adasid("stage=describe", *MICRO))
    figures = json.loads((folder / "metrics.json").read_text())
    counts, lengths = np.load(folder / "counts.npy"), np.load(folder / "lengths.npy")
    assert counts.sum() == lengths.sum() == figures["interactions"]
    assert figures["retrieval/train_rows"] + 2 * figures["retrieval/test_rows"] <= figures["interactions"]
