"""Every cell of every grid file composes, and rows differ where they should."""

from __future__ import annotations

import pytest

from adasid_exp.stages.grid import cells_of, choose_parts, choose_rows, load_grid
from adasid_exp.stages.locations import EXPERIMENTS
from adasid_exp.stages.schedule import stage_of
from adasid_exp.stages.tokenize import Tokenize
from adasid_exp.types import UserError

GRIDS = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


@pytest.mark.parametrize("name", GRIDS)
def test_every_cell_composes_and_no_two_rows_share_a_run(name: str) -> None:
    grid = load_grid(name)
    cells = cells_of(grid, grid.rows, grid.seeds[:1], ["data=toy"])
    rows: dict[str, set[str]] = {}
    for cell in cells:
        rows.setdefault(stage_of(cell.overrides).signature, set()).add(cell.row)
    assert all(len(names) == 1 for names in rows.values())
    assert grid.name == name


@pytest.mark.parametrize("name", GRIDS)
def test_seeds_are_runs_of_their_own(name: str) -> None:
    grid = load_grid(name)
    if len(grid.seeds) == 1:
        pytest.skip("nothing in this grid is drawn by seed")
    row = list(grid.rows)[-1]
    cells = cells_of(grid, {row: grid.rows[row]}, [0, 1], ["data=toy"])
    assert len({stage_of(cell.overrides).signature for cell in cells}) == len(cells)


@pytest.mark.parametrize("ablation", ["no_controller", "no_alignment", "no_sparsity", "no_router"])
def test_an_ablation_is_another_run(ablation: str) -> None:
    full = Tokenize(
        stage_of(
            (
                "stage=tokenize",
                "data=toy",
            )
        ).cfg
    )
    less = Tokenize(
        stage_of(
            (
                "stage=tokenize",
                "data=toy",
                f"ablation={ablation}",
            )
        ).cfg
    )
    assert full.signature != less.signature
    assert full.upstream["behavior"].signature == less.upstream["behavior"].signature


@pytest.mark.parametrize("ablation", ["no_controller", "no_alignment", "no_sparsity", "no_router"])
def test_an_ablation_of_a_method_without_the_part_fails_in_one_line(ablation: str) -> None:
    with pytest.raises(UserError) as caught:
        stage_of(
            (
                "stage=tokenize",
                "data=toy",
                "tokenizer=rq_vae",
                f"ablation={ablation}",
            )
        )
    assert "\n" not in str(caught.value)


def test_what_is_not_the_result_is_not_in_the_signature() -> None:
    plain = stage_of(
        (
            "stage=retrieve",
            "data=toy",
        )
    ).signature
    assert (
        stage_of(
            (
                "stage=retrieve",
                "data=toy",
                "runs=elsewhere",
                "progress=true",
                "threads=2",
            )
        ).signature
        == plain
    )
    assert (
        stage_of(
            (
                "stage=retrieve",
                "data=toy",
                "ranker.name=other",
            )
        ).signature
        == plain
    )
    assert (
        stage_of(
            (
                "stage=retrieve",
                "data=toy",
                "seed=1",
            )
        ).signature
        != plain
    )


def test_a_seed_set_after_composing_is_the_seed_composed() -> None:
    both = ("stage=retrieve", "data=toy", "seed=7"), ("seed=7", "stage=retrieve", "data=toy")
    quick, plain = (stage_of(overrides) for overrides in both)
    assert quick.signature == plain.signature
    assert quick.cfg == plain.cfg


def test_a_change_upstream_renews_what_follows_and_keeps_the_rest() -> None:
    before = {
        s.name: s.signature
        for s in stage_of(
            (
                "stage=retrieve",
                "data=toy",
            )
        ).walk()
    }
    after = {
        s.name: s.signature
        for s in stage_of(
            (
                "stage=retrieve",
                "data=toy",
                "tokenizer.align.alpha=20",
            )
        ).walk()
    }
    assert {name for name in before if before[name] != after[name]} == {"tokenize", "assign", "retrieve"}


def test_another_pad_threshold_makes_new_sids_without_retraining() -> None:
    before = {s.name: s.signature for s in stage_of(("stage=retrieve", "data=toy")).walk()}
    override = "tokenizer.router.threshold=0.2"
    after = {s.name: s.signature for s in stage_of(("stage=retrieve", "data=toy", override)).walk()}
    assert {name for name in before if before[name] != after[name]} == {"assign", "retrieve"}


def test_an_unknown_grid_or_method_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean table2"):
        load_grid("tabel2")
    with pytest.raises(UserError, match="did you mean ada_sid"):
        choose_rows(load_grid("table2"), ["ada-sid"])


def test_some_parts_of_a_grid():
    grid = choose_parts(load_grid("table2"), ["ranking"])
    assert {cell.part for cell in cells_of(grid, grid.rows, [0], [])} == {"ranking"}
    assert "item_id" in grid.rows
    assert "sasrec" not in grid.rows  # it stands in retrieval only
    assert [panel["title"] for panel in grid.figures["table2"]["panels"]] == ["AUC"]
    assert "table2_popularity" not in grid.figures  # drawn of quantization
    assert list(grid.compared) == ["ranking"]
    assert choose_parts(load_grid("table2"), None) == load_grid("table2")
    with pytest.raises(UserError, match="grid table2 has no part 'retreival'; did you mean retrieval"):
        choose_parts(load_grid("table2"), ["retreival"])
