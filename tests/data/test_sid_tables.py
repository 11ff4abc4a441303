"""SID tables of others: one table in every form reads alike; what is wrong is named with file and row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.data.sid_tables import load_sids
from adasid_exp.types import PAD, UserError

IDS = ["B01", "7", "x y"]
CODES = [[12, 3, 0], [0, PAD, 4], [12, 3, 4]]
NULLS = [[None if code == PAD else code for code in row] for row in CODES]
COLUMNS = {f"c{slot}": [row[slot] for row in NULLS] for slot in range(3)}
HYPHENS = ["12-3-0", "0--1-4", "12-3-4"]
TOKENS = [["<a_12>", "<b_3>", "<c_0>"], ["<a_0>", "<c_4>"], ["<a_12>", "<b_3>", "<c_4>"]]


def records(codes: list) -> list[dict]:
    return [{"item_id": item, "codes": row} for item, row in zip(IDS, codes, strict=True)]


def as_parquet(path: Path, data: dict) -> Path:
    pl.DataFrame(data).write_parquet(path)
    return path


def as_csv(path: Path, data: dict) -> Path:
    pl.DataFrame(data).write_csv(path)
    return path


def as_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


FORMS = {
    "parquet, lists": lambda d: as_parquet(d / "s.parquet", {"item_id": IDS, "codes": CODES}),
    "parquet, arrays": lambda d: as_parquet(
        d / "s.parquet", {"item_id": IDS, "codes": pl.Series(CODES, dtype=pl.Array(pl.Int16, 3))}
    ),
    "parquet, lists with nulls": lambda d: as_parquet(d / "s.parquet", {"item_id": IDS, "codes": NULLS}),
    "parquet, columns": lambda d: as_parquet(d / "s.parquet", {"item_id": IDS, **COLUMNS}),
    "parquet, float columns": lambda d: as_parquet(
        d / "s.parquet", {"item_id": IDS, **{name: [float("nan") if v is None else float(v) for v in column]
                                             for name, column in COLUMNS.items()}}
    ),
    "csv, columns": lambda d: as_csv(d / "s.csv", {"item_id": IDS, **COLUMNS}),
    "csv, hyphens": lambda d: as_csv(d / "s.csv", {"item_id": IDS, "codes": HYPHENS}),
    "csv, python lists": lambda d: as_csv(d / "s.csv", {"item_id": IDS, "codes": [str(row) for row in CODES]}),
    "csv, tokens": lambda d: as_csv(d / "s.csv", {"item_id": IDS, "codes": ["".join(row) for row in TOKENS]}),
    "json, item to list": lambda d: as_text(d / "s.json", json.dumps(dict(zip(IDS, CODES, strict=True)))),
    "json, item to tokens": lambda d: as_text(d / "s.index.json", json.dumps(dict(zip(IDS, TOKENS, strict=True)))),
    "json, item to numbers as text": lambda d: as_text(
        d / "s.json", json.dumps({i: [str(code) for code in row] for i, row in zip(IDS, CODES, strict=True)})
    ),
    "json, records": lambda d: as_text(d / "s.json", json.dumps(records(CODES))),
    "json lines": lambda d: as_text(d / "s.jsonl", "\n".join(map(json.dumps, records(HYPHENS)))),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_as_the_same_table(form: str, tmp_path: Path) -> None:
    found = load_sids(FORMS[form](tmp_path), sizes=None)
    assert found.sids.item_ids.tolist() == IDS
    assert found.sids.codes.tolist() == CODES
    assert found.sids.weights.tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert found.sids.sizes == (13, 4, 5)
    assert any("largest code + 1: 13, 4, 5" in note for note in found.notes)


def test_sizes_that_are_given_are_taken(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "s.csv", {"item_id": IDS, "codes": HYPHENS})
    found = load_sids(path, sizes=[256, 256, 100_000])
    assert found.sids.sizes == (256, 256, 100_000)
    assert found.notes == ()


def test_short_sids_end_in_pad_and_it_is_said(tmp_path: Path) -> None:
    path = as_text(tmp_path / "s.json", json.dumps({"a": [1, 2, 3], "b": [1]}))
    found = load_sids(path, sizes=None)
    assert found.sids.codes.tolist() == [[1, 2, 3], [1, PAD, PAD]]
    assert any(note.startswith("1 SIDs are shorter than 3") for note in found.notes)


def test_tokens_of_one_letter_count_by_place(tmp_path: Path) -> None:
    path = as_text(tmp_path / "s.json", json.dumps({"a": ["<s_4>", "<s_1>"], "b": ["<s_0>", "<s_7>"]}))
    assert load_sids(path, sizes=None).sids.codes.tolist() == [[4, 1], [0, 7]]


def test_an_artifact_is_read_as_it_was_saved(tmp_path: Path) -> None:
    saved = SemanticIds(
        item_ids=np.array(IDS),
        codes=np.array(CODES, dtype=np.int16),
        weights=np.ones((3, 3), dtype=np.float32),
        modalities=("shared", "text", "behavior"),
        sizes=(20, 20, 20),
        ordered=False,
    )
    saved.save(tmp_path)
    found = load_sids(tmp_path, sizes=None)
    assert found.sids.sizes == saved.sizes
    assert found.sids.modalities == saved.modalities
    assert found.sids.codes.tolist() == CODES


BAD = {
    "missing file": (lambda d: d / "no.csv", "no.csv is missing"),
    "missing folder": (lambda d: d / "nowhere", "holds no layout.json"),
    "other suffix": (lambda d: as_text(d / "s.txt", "x"), r"s.txt is none of \.parquet"),
    "empty": (lambda d: as_text(d / "s.csv", ""), "s.csv is empty"),
    "empty json": (lambda d: as_text(d / "s.json", "{}"), "s.json is empty"),
    "broken json": (lambda d: as_text(d / "s.json", '{"a": [1,'), "not readable JSON"),
    "no ids": (lambda d: as_csv(d / "s.csv", {"id": IDS, "codes": HYPHENS}), r"no column item_id \(it has id, codes\)"),
    "no codes": (lambda d: as_csv(d / "s.csv", {"item_id": IDS, "sid": HYPHENS}), "no column codes"),
    "gap": (lambda d: as_csv(d / "s.csv", {"item_id": IDS, "c0": [1, 2, 3], "c2": [1, 2, 3]}), "no column c1"),
    "text": (lambda d: as_csv(d / "s.csv", {"item_id": IDS, "codes": ["1-2", "1-x", "2-2"]}), "row 2: codes '1-x'"),
    "null": (lambda d: as_parquet(d / "s.parquet", {"item_id": IDS, "codes": [[1], None, [2]]}), "row 2: no codes"),
    "fraction": (lambda d: as_csv(d / "s.csv", {"item_id": IDS, "c0": [1.0, 2, 2.5]}), "row 3: code 2.5 is no integer"),
    "negative": (lambda d: as_csv(d / "s.csv", {"item_id": IDS, "c0": [1, 2, -7]}), "row 3: code -7 of slot 0"),
    "twice": (lambda d: as_csv(d / "s.csv", {"item_id": ["a", "b", "a"], "c0": [1, 2, 3]}), "row 3: item a is there"),
    "no id": (lambda d: as_csv(d / "s.csv", {"item_id": ["a", None], "c0": [1, 2]}), "row 2: no item_id"),
    "mapped to a number": (lambda d: as_text(d / "s.json", '{"a": [1], "b": 3}'), r"row 2 \(item b\): 3 is no SID"),
    "a slot twice": (lambda d: as_text(d / "s.json", '{"a": ["<a_1>", "<b_1>"], "b": ["<a_1>", "<a_2>"]}'), "row 2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_table_is_one_line_with_file_and_row(fault: str, tmp_path: Path) -> None:
    make, message = BAD[fault]
    with pytest.raises(UserError, match=message) as caught:
        load_sids(make(tmp_path), sizes=None)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_codes_beyond_the_sizes_given_are_named(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "s.csv", {"item_id": IDS, "codes": HYPHENS})
    with pytest.raises(UserError, match=r"row 1: code 12 of slot 0 is outside its codebook; stage.sizes says 12, 4, 5"):
        load_sids(path, sizes=[12, 4, 5])
    with pytest.raises(UserError, match=r"stage.sizes has 2 sizes, .* has 3 slots"):
        load_sids(path, sizes=[12, 4])
