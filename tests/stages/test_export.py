"""`stage=export_sids`, `stage=export_model` on a micro catalogue, and what the readers of docs/export.md read of it."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.artifacts.store import Store
from adasid_exp.stages import export_model
from adasid_exp.stages.export_model import Agreement, agreement, refuse_other_codes
from adasid_exp.stages.locations import CONF
from adasid_exp.stages.schedule import stage_of
from adasid_exp.tokenizers import export_formats
from adasid_exp.types import PAD, UserError
from conftest import MICRO

PAGE = CONF.parent / "docs" / "export.md"
METHOD = ("tokenizer=ada_sid", *MICRO, "scale.epochs={behavior:1,tokenizer:3,retriever:1,slots:1,ranker:1}")
Run = Callable[..., Path | None]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    """A stage as the command runs it, in one process."""

    def start(stage: str, *overrides: str) -> Path | None:
        made = stage_of((f"stage={stage}", *METHOD, f"runs={home / 'runs'}", *overrides))
        return made.ensure(Store(home / "runs")) if hasattr(made, "ensure") else made.run(Store(home / "runs"))

    return start


@pytest.fixture(scope="module")
def published(run: Run) -> SemanticIds:
    return SemanticIds.load(run("assign"))


@pytest.fixture(scope="module")
def shelf(home: Path, run: Run, published: SemanticIds) -> Path:
    """Two versions of SIDs: a catalogue, and three items more."""
    run("export_sids", f"stage.to={home / 'export' / 'sids'}")
    folder = home / "new"
    folder.mkdir()
    pl.DataFrame({"item_id": ["n1", "n2", "n3"]}).write_parquet(folder / "items.parquet")
    for modality in ("text", "vision"):
        vectors = next((home / "runs" / "embed").glob(f"*-{modality}-*")) / "vectors.npy"
        np.save(folder / f"{modality}.npy", np.load(vectors)[:3])
    grown = run("append_sids", f"stage.new_items={folder}")
    run("export_sids", f"sids={grown}", f"stage.to={home / 'export' / 'sids'}")
    return home / "export" / "sids"


@pytest.fixture(scope="module")
def model(home: Path, run: Run) -> Path:
    """A folder with one version of the tokenizer."""
    run("export_model", f"stage.to={home / 'export' / 'model'}")
    return home / "export" / "model"


def manifest_of(release: Path) -> dict:
    return json.loads((release / "manifest.json").read_text())


def test_a_grown_catalogue_is_a_version_more(shelf: Path, published: SemanticIds) -> None:
    first, second = shelf / "v0001", shelf / "v0002"
    assert json.loads((shelf / "index.json").read_text())["latest"] == "v0002"
    assert (first / "sids.parquet").stat().st_ino == (second / "sids.parquet").stat().st_ino
    assert manifest_of(second)["change"] == {
        "since": "v0001", "added": 3, "moved": 0, "reweighted": 0, "removed": 0, "layout": [],
    }  # fmt: skip
    whole = SemanticIds.load(second)
    assert whole.item_ids.tolist() == [*published.item_ids.tolist(), "n1", "n2", "n3"]
    np.testing.assert_array_equal(whole.codes[:-3], published.codes)
    source = manifest_of(second)["source"]
    assert (source["stage"], source["label"]) == ("append_sids", "toy-ada_sid-retrieval")
    assert source["inputs"]["tokenizer"]["settings"]["tokenizer"]["size"] == 8
    assert source["inputs"]["dataset"]["label"] == "toy"


def test_the_same_again_writes_nothing(shelf: Path, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    before = sorted(path.name for path in shelf.iterdir())
    with caplog.at_level(logging.INFO):
        run("export_sids", f"sids={shelf / 'v0002'}", f"stage.to={shelf}")
    assert "nothing new" in caplog.text
    assert sorted(path.name for path in shelf.iterdir()) == before


def test_fewer_items_are_refused_in_one_line(shelf: Path, run: Run) -> None:
    with pytest.raises(UserError, match=r"3 would disappear \(item n1 is missing\).*stage.allow_moved=true"):
        run("export_sids", f"stage.to={shelf}")


def test_sids_of_others_take_the_same_form(home: Path, run: Run) -> None:
    file = home / "theirs.index.json"
    file.write_text(json.dumps({"a": ["<a_1>", "<b_2>"], "b": ["<a_0>", "<b_0>"], "c": ["<a_1>", "<b_2>"]}))
    run("export_sids", f"sids={file}", f"stage.to={home / 'theirs'}")
    manifest = manifest_of(home / "theirs" / "v0001")
    assert [slot["size"] for slot in manifest["slots"]] == [2, 3]
    assert manifest["source"]["file"] == "theirs.index.json"
    inverse = pl.read_parquet(home / "theirs" / "v0001" / "inverse.parquet")
    assert inverse["item_ids"].to_list() == [["a", "c"], ["b"]]
    wide = home / "wide.csv"
    wide.write_text("item_id,c0\na,40000\n")
    with pytest.raises(UserError, match="40001 codes; 32768 can be exported"):
        run("export_sids", f"sids={wide}", f"stage.to={home / 'wide'}")
    with pytest.raises(UserError, match="stage.sizes is for a foreign table"):
        run("export_sids", "stage.sizes=[8]", f"stage.to={home / 'sizes'}")


def test_an_artifact_that_was_changed_is_not_published(home: Path, run: Run) -> None:
    copy = home / "copy"
    shutil.copytree(run("assign"), copy)
    whole = (copy / "sids.parquet").read_bytes()
    (copy / "sids.parquet").write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(UserError, match=r"sids.parquet was changed after it was made"):
        run("export_sids", f"sids={copy}", f"stage.to={home / 'changed'}")


def test_a_version_is_exported_elsewhere(shelf: Path, home: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    run("export_sids", f"sids={shelf / 'v0002'}")
    mirror = SemanticIds.load(home / "export" / "v0002" / "sids" / "v0001")
    np.testing.assert_array_equal(mirror.codes, SemanticIds.load(shelf / "v0002").codes)


@pytest.mark.slow
def test_a_model_was_checked_on_the_catalogue(model: Path, published: SemanticIds) -> None:
    manifest = manifest_of(model / "v0001")
    items = len(published.item_ids)
    assert manifest["published_sids"] == {"items": items, "equal": items, "why_not_all": []}
    for name, file in (("torch", "model.pt2"), ("onnx", "model.onnx")):
        assert manifest["formats"][name]["equal"] == manifest["formats"][name]["items"] == items
        assert manifest["formats"][name]["weights_off_by_at_most"] < 1e-4
        assert (model / "v0001" / file).is_file()
    assert [(put["name"], put["shape"]) for put in manifest["inputs"]] == [
        ("text", ["items", 64]), ("vision", ["items", 48]), ("behavior", ["items", 64]), ("count", ["items"]),
    ]  # fmt: skip
    assert manifest["made_from"]["text"]["label"] == "toy-text"


def test_a_model_gives_new_items_the_sids_that_appending_gives_them(model: Path, shelf: Path, home: Path) -> None:
    appended = SemanticIds.load(shelf / "v0002")
    new = {name: torch.from_numpy(np.load(home / "new" / f"{name}.npy")) for name in ("text", "vision")}
    assign = torch.export.load(model / "v0001" / "model.pt2").module()
    codes, weights = assign(new["text"], new["vision"], torch.zeros(3, 64), torch.zeros(3, dtype=torch.int64))
    np.testing.assert_array_equal(codes.numpy(), appended.codes[-3:])
    np.testing.assert_allclose(weights.numpy(), appended.weights[-3:], rtol=1e-5)


def test_the_same_tokenizer_is_exported_once(model: Path, run: Run) -> None:
    run("export_model", f"stage.to={model}")
    assert [path.name for path in model.glob("v*")] == ["v0001"]
    with pytest.raises(UserError, match="holds exports of sid-model, not of semantic-ids"):
        run("export_sids", f"stage.to={model}")


def test_what_a_collision_policy_moved_is_said(home: Path, run: Run) -> None:
    run("export_model", "collisions=dedup_token", "~stage.formats.onnx", f"stage.to={home / 'parted'}")
    manifest = manifest_of(home / "parted" / "v0001")
    assert "before that" in manifest["published_sids"]["why_not_all"][0]
    assert len(manifest["slots"]) == manifest["outputs"][0]["shape"][1]  # without the policy's own slot
    assert list(manifest["formats"]) == ["torch"]


def test_a_format_that_cannot_be_written_is_named_and_made_up_for_later(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export_formats, "find_spec", lambda name: None if name == "onnxscript" else object())
    run("export_model", f"stage.to={home / 'torch_only'}")
    manifest = manifest_of(home / "torch_only" / "v0001")
    assert manifest["formats"]["onnx"] == {"why_not": "onnxscript not installed: pip install 'adasid-exp[onnx]'"}
    assert "no model.onnx: onnxscript not installed" in caplog.text
    assert manifest["summary"]["files"] == ["model.pt2"]
    assert manifest["identity"]["formats"]["onnx"] is None  # so that the same command writes it once it can


def test_weights_that_give_other_sids_are_refused(home: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_model.semantic_ids, "stored", lambda *given: np.full((80, 8), 7, dtype=np.int16))
    monkeypatch.setattr(export_model, "published_mean", lambda *given: 1.0)
    with pytest.raises(UserError, match="80 of 80 items another SID than"):
        run("export_model", f"stage.to={home / 'other'}")
    assert not list((home / "other").glob("v*"))


def test_agreement_counts_items_and_refuses_too_few() -> None:
    features = {"text": np.arange(5, dtype=np.float32)[:, None]}
    items = ItemEmbeddings(features=features, count=np.zeros(5, dtype=np.int64))

    class Round:
        def __call__(self, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return text.long(), text / 8

        def given(self, batch: object) -> list[torch.Tensor]:
            return [batch.features["text"]]  # type: ignore[attr-defined]

    found = agreement(Round(), lambda batch: (batch.features["text"].long().clamp(max=3), torch.zeros(5, 1)), items)
    assert found == Agreement(items=5, equal=4, weights=3 / 8)  # the last item differs, so its weight does not count
    refuse_other_codes("model.onnx", found, 0.2)
    with pytest.raises(UserError, match="1 of 5 items another SID"):
        refuse_other_codes("model.onnx", found, 0.1)


def test_the_readers_of_the_page_read(
    shelf: Path, model: Path, home: Path, monkeypatch: pytest.MonkeyPatch, published: SemanticIds
) -> None:
    monkeypatch.chdir(home)
    blocks = re.findall(r"```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        assert "adasid" not in block
        found: dict = {}
        exec(compile(block, str(PAGE), "exec"), found)
        if "sids" in found:
            assert len(found["sids"]) == len(published.item_ids) + 3
        elif "items_of" in found:
            assert sum(map(len, found["items_of"].values())) == len(published.item_ids) + 3
        else:
            codes = np.asarray(found["codes"])
            assert codes.shape == (5, 8)
            assert ((codes >= PAD) & (codes < 8)).all()
