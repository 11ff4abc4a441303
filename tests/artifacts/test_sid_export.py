"""Versions of shipped SIDs: whole or not there, never changed, readable by others, and no published SID moves."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from adasid_exp.artifacts import semantic_ids
from adasid_exp.artifacts.releases import Release, Releases
from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.artifacts.sid_export import facts_of, refuse_breaking, step_between, write_next
from adasid_exp.types import PAD, UserError


def sids(items: int, first: int = 0) -> SemanticIds:
    """Items ``first`` and on: equal rows whatever ``items`` is."""
    rows = np.arange(first, first + items)
    codes = np.stack([rows % 4, rows % 3, np.where(rows % 5 == 0, PAD, rows % 2)], 1).astype(np.int16)
    return SemanticIds(
        item_ids=np.array([f"i{row}" for row in rows]),
        codes=codes,
        weights=(codes != PAD).astype(np.float32),
        modalities=("text", "text", "behavior"),
        sizes=(4, 3, 2),
        ordered=False,
    )


def saved(folder: Path, table: SemanticIds) -> Path:
    folder.mkdir()
    table.save(folder)
    return folder


def export(root: Path, source: Path, allow: bool = False) -> Release | None:
    """What the stage does."""
    releases = Releases(root=root, kind="semantic-ids")
    with releases.draft() as draft:
        before = releases.latest()
        step = step_between(before.folder, source) if before else None
        if step is not None and step.change.none:
            return None
        if step is not None and before is not None and not allow:
            refuse_breaking(step.change, before)
        out = draft / "out"
        out.mkdir()
        return releases.publish(out, facts_of(write_next(out, source, before, step), before, step and step.change))


def rows_of(release: Release) -> dict[str, list[int]]:
    """Read as a consumer would: manifest, pyarrow, nothing of this package."""
    shards = json.loads((release.folder / "manifest.json").read_text())["shards"]
    rows = [row for shard in shards for row in pq.read_table(release.folder / shard["sids"]).to_pylist()]
    return {row["item_id"]: row["codes"] for row in rows}


def test_a_version_holds_every_item_and_says_its_form(tmp_path: Path) -> None:
    release = export(tmp_path / "to", saved(tmp_path / "a", sids(20)))
    assert rows_of(release) == dict(zip(sids(20).item_ids.tolist(), sids(20).codes.tolist(), strict=True))
    manifest = json.loads((release.folder / "manifest.json").read_text())
    assert manifest["slots"] == [{"modality": m, "size": s} for m, s in [("text", 4), ("text", 3), ("behavior", 2)]]
    assert manifest["pad"] == PAD
    assert manifest["summary"] == {"items": 20, "added": 20, "breaking": False}
    index = json.loads((tmp_path / "to" / "index.json").read_text())
    assert index["latest"] == "v0001"


def test_digests_are_checked_by_a_tool_everyone_has(tmp_path: Path) -> None:
    folder = export(tmp_path / "to", saved(tmp_path / "a", sids(20))).folder
    check = ["sha256sum", "-c", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=folder, check=False).returncode == 0
    victim = folder / "sids.parquet"
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    assert subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode == 1


def test_new_items_come_as_a_shard_and_old_files_are_the_same_file(tmp_path: Path) -> None:
    first = export(tmp_path / "to", saved(tmp_path / "a", sids(20)))
    grown = tmp_path / "b"
    grown.mkdir()
    semantic_ids.append(tmp_path / "a", sids(7, first=20), grown)  # what stage=append_sids writes
    second = export(tmp_path / "to", grown)
    assert second.version == "v0002"
    assert os.stat(first.folder / "sids.parquet").st_ino == os.stat(second.folder / "sids.parquet").st_ino
    assert {**rows_of(first), **dict(zip(sids(27).item_ids.tolist(), sids(27).codes.tolist(), strict=True))} == rows_of(
        second
    )
    assert second.manifest["change"] == {
        "since": "v0001", "added": 7, "moved": 0, "reweighted": 0, "removed": 0, "layout": (),
    }  # fmt: skip
    # A whole table that holds the published one is the same step, whatever its files.
    assert export(tmp_path / "to", saved(tmp_path / "c", sids(27))) is None
    third = export(tmp_path / "to", saved(tmp_path / "d", sids(30)))
    assert third.manifest["summary"] == {"items": 30, "added": 3, "breaking": False}
    assert [shard["rows"] for shard in third.manifest["shards"]] == [20, 7, 3]


def test_the_inverse_map_over_all_shards_is_that_of_the_table(tmp_path: Path) -> None:
    export(tmp_path / "to", saved(tmp_path / "a", sids(20)))
    release = export(tmp_path / "to", saved(tmp_path / "b", sids(33)))
    found: dict[tuple[int, ...], list[str]] = {}
    for shard in release.manifest["shards"]:
        for row in pq.read_table(release.folder / shard["inverse"]).to_pylist():
            found.setdefault(tuple(row["codes"]), []).extend(row["item_ids"])
    expected: dict[tuple[int, ...], list[str]] = {}
    for item, codes in rows_of(release).items():
        expected.setdefault(tuple(codes), []).append(item)
    assert found == expected


def changed(table: SemanticIds, row: int, codes: list[int]) -> SemanticIds:
    new = table.codes.copy()
    new[row] = codes
    return replace(table, codes=new)


def test_published_sids_do_not_move_unless_one_says_so(tmp_path: Path) -> None:
    first = export(tmp_path / "to", saved(tmp_path / "a", sids(20)))
    other = saved(tmp_path / "b", changed(sids(22), 3, [0, 0, 0]))
    with pytest.raises(UserError, match=r"1 would move \(item i3: 3-0-1 -> 0-0-0\)"):
        export(tmp_path / "to", other)
    with pytest.raises(UserError, match=r"18 would disappear \(item i2 is missing\)"):
        export(tmp_path / "to", saved(tmp_path / "c", sids(2)))
    with pytest.raises(UserError, match="sizes would differ"):
        export(tmp_path / "to", saved(tmp_path / "d", replace(sids(20), sizes=(5, 3, 2))))
    light = sids(20).weights * np.float32(0.5)
    with pytest.raises(UserError, match="20 would change weight"):
        export(tmp_path / "to", saved(tmp_path / "e", replace(sids(20), weights=light)))
    assert [path.name for path in (tmp_path / "to").glob("v*")] == ["v0001"]
    assert not (tmp_path / "to" / ".draft").exists()
    breaking = export(tmp_path / "to", other, allow=True)
    assert breaking.manifest["summary"] == {"items": 22, "added": 2, "breaking": True}
    assert breaking.manifest["change"]["moved"] == 1
    assert rows_of(breaking)["i3"] == [0, 0, 0]
    assert rows_of(first)["i3"] == [3, 0, 1]


def test_what_a_killed_export_left_is_no_version(tmp_path: Path) -> None:
    root, source = tmp_path / "to", saved(tmp_path / "a", sids(20))
    (root / ".draft" / "out").mkdir(parents=True)
    (root / ".draft" / "out" / "sids.parquet").write_bytes(b"half")
    assert Releases(root=root, kind="semantic-ids").all() == []
    release = export(root, source)
    assert len(rows_of(release)) == 20
    (root / "index.json").unlink()  # killed between the rename and the index
    assert export(root, saved(tmp_path / "b", sids(21))).version == "v0002"
    assert len(json.loads((root / "index.json").read_text())["versions"]) == 2


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "a", sids(20))
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds other things"):
        export(tmp_path / "to", source)
    export(tmp_path / "sids", source)
    with pytest.raises(UserError, match="holds exports of semantic-ids"):
        Releases(root=tmp_path / "sids", kind="model").all()


def test_exports_at_once_wait_for_each_other(tmp_path: Path) -> None:
    source = saved(tmp_path / "a", sids(2000))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: export(tmp_path / "to", source), range(4)))
    assert [release.version for release in made if release] == ["v0001"]


def test_a_full_disk_leaves_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = export(tmp_path / "to", saved(tmp_path / "a", sids(20)))

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(semantic_ids, "link", full)
    with pytest.raises(UserError, match=r"the disk refused.*No space left.*what was exported before is intact"):
        export(tmp_path / "to", saved(tmp_path / "b", sids(21)))
    assert sorted(path.name for path in (tmp_path / "to").iterdir() if path.name != ".lock") == ["index.json", "v0001"]
    assert len(Releases(root=tmp_path / "to", kind="semantic-ids").all()) == 1
    assert len(rows_of(first)) == 20
