"""SIDs on disk: what is written comes back, the inverse map inverts, bad tables are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.semantic_ids import INVERSE, SemanticIds
from adasid_exp.types import PAD, UserError


def make_sids(**changes: object) -> SemanticIds:
    fields: dict[str, object] = {
        "item_ids": np.array(["a", "b", "c"]),
        "codes": np.array([[1, PAD], [0, 3], [1, PAD]], dtype=np.int16),
        "weights": np.array([[1, 0], [1, 0.5], [1, 0]], dtype=np.float32),
        "modalities": ("text", "behavior"),
        "sizes": (2, 4),
        "ordered": False,
    }
    return SemanticIds(**{**fields, **changes})  # type: ignore[arg-type]


def test_save_and_load_give_the_same_sids(tmp_path: Path) -> None:
    sids = make_sids()
    sids.save(tmp_path)
    back = SemanticIds.load(tmp_path)
    assert back.item_ids.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(back.codes, sids.codes)
    np.testing.assert_array_equal(back.weights, sids.weights)
    assert (back.modalities, back.sizes, back.ordered) == (sids.modalities, sids.sizes, False)


def test_the_inverse_map_lists_colliding_items_together(tmp_path: Path) -> None:
    make_sids().save(tmp_path)
    inverse = pl.read_parquet(tmp_path / INVERSE)
    found = {tuple(row["codes"]): row["item_ids"] for row in inverse.to_dicts()}
    assert found == {(1, PAD): ["a", "c"], (0, 3): ["b"]}  # by hand


def test_the_table_keeps_pad_and_weights() -> None:
    table = make_sids().table()
    assert table.codes.tolist() == [[1, -1], [0, 3], [1, -1]]
    assert table.weights[1].tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[2, 0], [0, 0], [0, 0]], r"item a slot 0 holds code 2, outside \[-1, 2\)"),
        ([[0, 0], [0, 0], [0, -2]], r"item c slot 1 holds code -2"),
    ],
)
def test_codes_outside_their_codebook_are_refused(codes: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sids(codes=np.array(codes, dtype=np.int16))


def test_a_truncated_table_is_one_line(tmp_path: Path) -> None:
    make_sids().save(tmp_path)
    table = tmp_path / "sids.parquet"
    table.write_bytes(table.read_bytes()[:20])
    with pytest.raises(UserError, match="holds no readable SIDs") as caught:
        SemanticIds.load(tmp_path)
    assert "\n" not in str(caught.value)
