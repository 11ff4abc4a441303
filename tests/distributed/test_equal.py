"""Two and three processes train what one trains: the same losses, metrics and SIDs, also with nothing to do."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from cases import CASES, Case, case, make_all
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from adasid_exp.artifacts.store import Store
from adasid_exp.stages.tokenize import Tokenize, item_embeddings, task_histories, trained_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WORLDS = (2, 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Case]:
    """Every case, made by one process, by two and by three; all ranks start once."""
    root = tmp_path_factory.mktemp("ranks")
    store = Store(root / "upstream")
    found: dict[tuple[str, int], Case] = {}
    for name in CASES:
        stage = case(name, "cpu", {}, root / "1").stage
        inputs = {role: upstream.ensure(store) for role, upstream in stage.upstream.items()}
        found[name, 1] = case(name, "cpu", inputs, root / "1")
        found[name, 1].make()
        found |= {(name, world): case(name, "ddp", inputs, root / str(world)) for world in WORLDS}
    make_all({world: [found[name, world] for name in CASES] for world in reversed(WORLDS)})
    return found


def logged(one: Case) -> list[dict[str, float]]:
    """What the logger wrote, row by row."""
    (path,) = one.folder.glob(f"logs/{one.stage.name}/*/metrics.csv")
    rows = csv.DictReader(path.read_text().splitlines())
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", CASES)
def test_losses_and_metrics_are_those_of_one_process(name: str, world: int, made: dict[tuple[str, int], Case]) -> None:
    # Law: the ranks share one global batch, so every logged figure is that of the process that holds it alone.
    alone, together = logged(made[name, 1]), logged(made[name, world])
    assert [row.keys() for row in together] == [row.keys() for row in alone]
    losses = 0
    for mine, theirs in zip(alone, together, strict=True):
        for key, value in mine.items():
            if "auc" in key:  # of rows with equal features the last bit decides: see the test of rows
                continue
            exact = key.startswith(("val/", "final/")) and key not in ("val/logloss",) and "recon" not in key
            assert theirs[key] == pytest.approx(value, rel=1e-5, abs=1e-6 if exact else 1e-5), key
            losses += key.startswith("train/")
    assert losses


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_of_one_process(name: str, world: int, made: dict[tuple[str, int], Case]) -> None:
    alone, together = (load_file(made[name, count].folder / "out" / "model.safetensors") for count in (1, world))
    assert alone.keys() == together.keys()
    for key, values in alone.items():
        torch.testing.assert_close(
            together[key], values, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", [name for name, how in CASES.items() if "stage=tokenize" in how])
def test_sids_are_identical(name: str, world: int, made: dict[tuple[str, int], Case]) -> None:
    codes = [sids(made[name, count]) for count in (1, world)]
    assert torch.equal(*codes)
    assert len(codes[0].unique(dim=0)) > 4  # it has learnt to tell items apart


def sids(one: Case) -> torch.Tensor:
    stage = one.stage
    assert isinstance(stage, Tokenize)
    items = item_embeddings(stage.cfg, stage.task, one.inputs)
    histories = task_histories(stage.cfg, stage.task, one.inputs)
    model = trained_tokenizer(stage.cfg.tokenizer, items, histories, one.folder / "out")
    if hasattr(model, "clusters"):
        model.fit_statistics(items.batch())
    return model.encode(items.batch()).codes


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", [name for name, how in CASES.items() if how[0] in ("stage=retrieve", "stage=rank")])
def test_every_row_is_measured_once_and_alike(name: str, world: int, made: dict[tuple[str, int], Case]) -> None:
    alone, together = (made[name, count].folder / "out" for count in (1, world))
    mine, theirs = (pl.read_parquet(folder / "rows.parquet") for folder in (alone, together))
    assert theirs.columns == mine.columns
    for column in mine.columns:
        if column == "score":
            np.testing.assert_allclose(theirs[column], mine[column], rtol=1e-4, atol=1e-5)
        else:
            assert theirs[column].to_list() == mine[column].to_list(), column
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (alone, together)]
    for key, value in figures[0].items():
        if "auc" not in key:
            assert figures[1][key] == pytest.approx(value, abs=1e-5 if "logloss" in key else 1e-6, nan_ok=True), key
    if "score" in mine.columns:
        # Rows of equal features tie but for the last bit, which hangs on the size of a matrix product: no more than
        # these pairs may be ordered otherwise.
        score, liked = mine["score"].to_numpy(), mine["label"].to_numpy() > 0
        ties = (np.abs(score[liked][:, None] - score[~liked][None]) < 1e-5).mean()
        assert ties < 0.05
        assert figures[1]["test/auc"] == pytest.approx(figures[0]["test/auc"], abs=1e-6 + ties)
        # Independent reference: scikit-learn on the rows that all ranks kept.
        exact = roc_auc_score(theirs["label"], theirs["score"])
        assert figures[1]["test/auc"] == pytest.approx(exact, abs=1e-6)


MOST_EXCHANGES = {
    "rq_vae": 3,  # counts of use; gradients, and DDP's map of the parameters that had none
    "rq_vae, EMA": 3,  # what codewords are moved by, of all levels; gradients and map
    "ada_sid": 7,  # candidates there and back, routed slots, loads, counts; gradients and map
    "letter": 5,
    "das": 6,
    "mm_rq_vae": 7,
    "rq_kmeans": 4,
}
"""Of a step, by case: each costs a CPU step about a millisecond, however little is said."""


@pytest.mark.parametrize("name", MOST_EXCHANGES)
def test_a_step_says_few_words(name: str, made: dict[tuple[str, int], Case]) -> None:
    # By hand, from what each loss needs of other ranks; before they were told together rq_vae had 12 and ada_sid 23.
    said = [json.loads((made[name, 2].folder / f"exchanges-{rank}.json").read_text()) for rank in range(2)]
    assert said[0] == said[1]
    assert 0 < sum(said[0].values()) <= MOST_EXCHANGES[name]


def test_only_the_first_rank_writes(made: dict[tuple[str, int], Case]) -> None:
    for (name, world), one in made.items():
        if world > 1:
            alone = {path.name for path in (made[name, 1].folder / "out").iterdir()}
            assert {path.name for path in (one.folder / "out").iterdir()} == alone
            assert len(list(Path(one.folder / "logs").rglob("metrics.csv"))) == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_ranks_that_compile_train_as_one_process_that_does_not(tmp_path: Path) -> None:
    # Law: what is compiled computes the same, and exchanges stay outside of the graphs.
    name = "retrieve, items"
    store = Store(tmp_path / "upstream")
    stage = case(name, "cpu", {}, tmp_path / "1").stage
    inputs = {role: upstream.ensure(store) for role, upstream in stage.upstream.items()}
    alone = case(name, "cpu", inputs, tmp_path / "1")
    together = case(name, "ddp", inputs, tmp_path / "2", "trainer.compile=true")
    alone.make()
    make_all({2: [together]})
    losses = [[row["train/loss"] for row in logged(one) if "train/loss" in row] for one in (alone, together)]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
