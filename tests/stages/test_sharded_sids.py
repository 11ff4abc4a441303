"""SIDs shard by shard: no file depends on an interruption, no SID on the shards, and published files never change."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from adasid_exp.artifacts import semantic_ids
from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.artifacts.semantic_ids import SemanticIds, shards_of
from adasid_exp.artifacts.store import list_files
from adasid_exp.data.new_items import read_new_items
from adasid_exp.functional.collisions import DedupToken, Leave, NearestFree
from adasid_exp.stages import encoding as encoding_module
from adasid_exp.stages.append import appended, published_mean, refuse_known
from adasid_exp.stages.assign import code_table, mean_behavior_weight, quality, quality_of, save_sids
from adasid_exp.stages.encoding import encode_catalogue
from adasid_exp.types import PAD, UserError

ITEMS, DIM, SIZES = 500, 6, (7, 7, 5)


class Nearest:
    """A tokenizer to test with: the nearest codeword in each slot, behavior slots of short vectors unused."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.books = [torch.randn(size, DIM, generator=generator) for size in SIZES]
        self.layout = SimpleNamespace(sizes=SIZES, modalities=("text", "text", "behavior"), ordered=False)
        self.encoded = 0

    def distances(self, items):
        text = items.features["text"]
        width = max(SIZES)
        return torch.stack(
            [torch.nn.functional.pad(torch.cdist(text, book).square(), (0, width - len(book))) for book in self.books],
            1,
        )

    def encode(self, items):
        distance = self.distances(items)
        codes = torch.stack([distance[:, slot, :size].argmin(1) for slot, size in enumerate(SIZES)], 1)
        norm = items.features["text"].norm(dim=1)
        codes[norm < 2, 2] = PAD
        self.encoded += len(codes)
        return SimpleNamespace(codes=codes, weights=norm[:, None].expand(-1, 3) * (codes != PAD))

    def targets(self, items):
        return items.features

    def reconstruct(self, items):
        return {"text": items.features["text"] * 0.5}

    def diagnostics(self, items):
        return {"richness": items.features["text"].norm(dim=1)}


class Fragile(Nearest):
    """Breaks off after so many items."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def encode(self, items):
        if self.encoded >= self.after:
            raise KeyboardInterrupt
        return super().encode(items)


def embeddings(items: int = ITEMS, seed: int = 1) -> ItemEmbeddings:
    random = np.random.default_rng(seed)
    return ItemEmbeddings(
        features={"text": random.standard_normal((items, DIM)).astype(np.float32)},
        count=random.integers(0, 50, items),
    )


IDS = np.array([f"item {number}" for number in range(ITEMS)])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_module, "CHUNK", 32)


def assign(folder: Path, model: Nearest, shard_rows: int) -> Path:
    """What the stage does with a model and embeddings, less its metrics."""
    encoding = encode_catalogue(model, embeddings(), folder / "shards", shard_rows)
    out = folder / "out"
    out.mkdir()
    save_sids(out, IDS, code_table(encoding, model.layout), encoding, model.layout.modalities)
    return out


def inverse_of(folder: Path) -> dict[tuple[int, ...], list[str]]:
    shards = shards_of(semantic_ids.read_layout(folder))
    frames = [pl.read_parquet(folder / shard.inverse) for shard in shards]
    rows = pl.concat(frames).to_dicts()
    assert all(row["items"] == len(row["item_ids"]) for row in rows)
    found = {tuple(row["codes"]): row["item_ids"] for row in rows}
    assert len(found) == len(rows)  # no SID stands twice
    return found


@pytest.mark.parametrize("after", [0, 40, 150, 490])
def test_an_interrupted_pass_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, after: int) -> None:
    whole = assign(tmp_path / "whole", Nearest(), 100)
    with pytest.raises(KeyboardInterrupt):
        assign(tmp_path / "broken", Fragile(after), 100)
    model = Nearest()
    again = assign(tmp_path / "broken", model, 100)
    assert list_files(again) == list_files(whole)
    finished = after // 100 * 100 if after > 40 else 0
    assert model.encoded == ITEMS - finished  # what was finished is not encoded again


def test_no_sid_depends_on_the_shards(tmp_path: Path) -> None:
    one, many = assign(tmp_path / "one", Nearest(), ITEMS), assign(tmp_path / "many", Nearest(), 130)
    assert sorted(path.name for path in one.iterdir()) == ["inverse.parquet", "layout.json", "sids.parquet"]
    assert len(list(many.glob("sids-*.parquet"))) == len(list(many.glob("inverse-*.parquet"))) == 4
    first, second = SemanticIds.load(one), SemanticIds.load(many)
    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_allclose(first.weights, second.weights, rtol=1e-6)
    assert first.item_ids.tolist() == second.item_ids.tolist() == IDS.tolist()
    assert inverse_of(one) == inverse_of(many)
    assert sum(map(len, inverse_of(many).values())) == ITEMS


def test_figures_in_parts_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sids = SemanticIds.load(assign(tmp_path, Nearest(), ITEMS))
    whole = quality(sids)
    monkeypatch.setattr("adasid_exp.stages.assign.AT_ONCE", 33)
    encoding = encode_catalogue(Nearest(), embeddings(), tmp_path / "parts", 77)
    assert quality_of(code_table(encoding, Nearest().layout)) == whole
    assert whole["slot2/load"] == pytest.approx((sids.codes[:, 2] != PAD).mean())


def test_a_missing_or_shortened_shard_is_one_line(tmp_path: Path) -> None:
    out = assign(tmp_path, Nearest(), 200)
    shard = out / "sids-00001.parquet"
    pl.read_parquet(shard).head(10).write_parquet(shard)
    with pytest.raises(UserError, match=r"sids-00001.parquet has 10 rows, 200 were written"):
        SemanticIds.load(out)
    shard.unlink()
    with pytest.raises(UserError, match="holds no readable SIDs"):
        SemanticIds.load(out)


def test_a_layout_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    out = assign(tmp_path, Nearest(), 200)
    layout = json.loads((out / "layout.json").read_text())
    layout["shards"][0]["table"] = "../secret.parquet"
    (out / "layout.json").write_text(json.dumps(layout))
    with pytest.raises(UserError, match="outside its folder"):
        SemanticIds.load(out)


def append_to(published: Path, folder: Path, seed: int, policy: object, mean: float = 1.0) -> SemanticIds:
    folder.mkdir()
    ids = np.array([f"new {seed}.{number}" for number in range(60)])
    new = appended(Nearest(), embeddings(60, seed), ids, published, policy, mean, folder.parent / f"work {seed}")
    semantic_ids.append(published, new, folder)
    return SemanticIds.load(folder)


@pytest.mark.parametrize("shard_rows", [ITEMS, 130])
@pytest.mark.parametrize("policy", [Leave(), NearestFree(candidates=64)])
def test_appending_moves_no_published_sid(tmp_path: Path, shard_rows: int, policy: object) -> None:
    """Twice in a row: every file of before is there with the same bytes, and its rows come first."""
    published = assign(tmp_path, Nearest(), shard_rows)
    for seed in (7, 8):
        before, old = list_files(published), SemanticIds.load(published)
        both = append_to(published, tmp_path / f"appended {seed}", seed, policy)
        after = list_files(tmp_path / f"appended {seed}")
        assert {name: after[name] for name in before if name != "layout.json"} == {
            name: record for name, record in before.items() if name != "layout.json"
        }
        assert list_files(published) == before
        np.testing.assert_array_equal(both.codes[: len(old.codes)], old.codes)
        np.testing.assert_array_equal(both.weights[: len(old.codes)], old.weights)
        assert both.item_ids[len(old.codes) :].tolist() == [f"new {seed}.{number}" for number in range(60)]
        published = tmp_path / f"appended {seed}"


def test_new_items_without_a_policy_get_what_the_tokenizer_says(tmp_path: Path) -> None:
    both = append_to(assign(tmp_path, Nearest(), 130), tmp_path / "more", 9, Leave())
    expected = Nearest().encode(embeddings(60, 9).batch()).codes.numpy()
    np.testing.assert_array_equal(both.codes[ITEMS:], expected)


def test_new_dedup_numbers_may_not_outgrow_the_published_slot(tmp_path: Path) -> None:
    model, out = Nearest(), tmp_path / "out"
    out.mkdir()
    encoding = encode_catalogue(model, embeddings(), tmp_path / "shards", ITEMS)
    sids = DedupToken(bound=None)(code_table(encoding, model.layout).sids(), model.distances)
    SemanticIds(
        item_ids=IDS,
        codes=sids.codes.numpy(),
        weights=sids.weights.numpy(),
        modalities=sids.modalities,
        sizes=sids.sizes,
        ordered=False,
    ).save(out)
    most = int(sids.codes[:, 3].argmax())
    again = embeddings()
    crowd = ItemEmbeddings(features={"text": again.features["text"][[most]]}, count=again.count[:1])
    with pytest.raises(UserError, match=r"collisions\.bound: 1 new items need numbers beyond"):
        appended(model, crowd, np.array(["x"]), out, DedupToken(bound=None), 1.0, tmp_path / "more")


def test_the_mean_of_published_weights_is_found_again(tmp_path: Path) -> None:
    out = assign(tmp_path, Nearest(), 130)
    encoding = encode_catalogue(Nearest(), embeddings(), tmp_path / "shards", 130)
    wanted = mean_behavior_weight(encoding, Nearest().layout.modalities)
    assert published_mean(Nearest(), embeddings(), out) == pytest.approx(wanted, rel=1e-6)


def test_an_item_that_is_there_already_is_one_line(tmp_path: Path) -> None:
    out = assign(tmp_path, Nearest(), 130)
    with pytest.raises(UserError, match=r"row 2: item item 431 has a published SID.*1 of 2") as caught:
        refuse_known(out, np.array(["new", "item 431"]), Path("folder"))
    assert "\n" not in str(caught.value)


def test_new_items_are_read_and_a_missing_behavior_is_none(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": [3, 4]}).write_parquet(tmp_path / "items.parquet")
    np.save(tmp_path / "text_minilm.npy", np.ones((2, 4), np.float16))
    ids, items = read_new_items(tmp_path, {"text": 4, "behavior": 3}, "behavior")
    assert ids.tolist() == ["3", "4"]
    assert items.features["text"].tolist() == [[1.0] * 4] * 2
    assert (items.features["behavior"] == 0).all()
    assert items.count.tolist() == [0, 0]
    for dims, message in (
        ({"text": 5}, r"float16 \[2, 4\], wanted floats \[2, 5\]"),
        ({"vision": 4}, "brings no vision"),
    ):
        with pytest.raises(UserError, match=message):
            read_new_items(tmp_path, dims, "behavior")


@pytest.mark.parametrize("ids", [["a", None], ["a", "a"]])
def test_bad_ids_name_their_row(tmp_path: Path, ids: list[str | None]) -> None:
    pl.DataFrame({"item_id": ids}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(UserError, match="row 2: item_id"):
        read_new_items(tmp_path, {}, "behavior")
