"""The store: names follow dependencies, artifacts are whole or absent, processes share it."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from adasid_exp.artifacts.provenance import Meter, provenance
from adasid_exp.artifacts.store import MANIFEST, Manifest, Store, file_digest, list_files, signature_of
from adasid_exp.types import UserError


def make_manifest(out: Path, signature: str = "0" * 16) -> Manifest:
    return Manifest(
        stage="prepare",
        version=1,
        label="toy",
        signature=signature,
        settings={},
        inputs={},
        files=list_files(out),
        facts={},
        provenance={},
    )


def test_signature_is_the_sha256_of_canonical_json() -> None:
    # Reference: sha256 of the text {"a":1,"b":[2]} worked out with coreutils' sha256sum.
    import hashlib

    assert signature_of({"b": [2], "a": 1}) == hashlib.sha256(b'{"a":1,"b":[2]}').hexdigest()[:16]


def test_signature_ignores_order_and_sees_values() -> None:
    assert signature_of({"a": 1, "b": 2}) == signature_of({"b": 2, "a": 1})
    assert signature_of({"a": 1}) != signature_of({"a": 2})


def test_an_artifact_without_manifest_is_not_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.folder("prepare", "toy", "0" * 16).mkdir(parents=True)
    assert store.find("prepare", "0" * 16) is None


def test_publish_then_find_whatever_the_label(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim("prepare", "0" * 16) as work:
        out = work / "out"
        out.mkdir()
        (out / "data.txt").write_text("hello")
        final = store.publish(out, make_manifest(out))
    assert store.find("prepare", "0" * 16) == final
    record = Manifest.load(final).files["data.txt"]
    assert record == {"bytes": 5, "sha256": file_digest(final / "data.txt")}


def test_a_truncated_file_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim("prepare", "0" * 16) as work:
        out = work / "out"
        out.mkdir()
        (out / "data.txt").write_text("hello")
        final = store.publish(out, make_manifest(out))
    (final / "data.txt").write_text("hel")
    with pytest.raises(UserError, match=r"data.txt has 3 bytes, 5 were written; delete the folder") as caught:
        store.find("prepare", "0" * 16)
    assert "\n" not in str(caught.value)


def test_a_damaged_manifest_is_one_line(tmp_path: Path) -> None:
    folder = Store(tmp_path).folder("prepare", "toy", "0" * 16)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text('{"stage": ')
    with pytest.raises(UserError, match="no readable manifest"):
        Store(tmp_path).find("prepare", "0" * 16)


def append_one(root: str) -> None:
    """What each of the racing processes does: make the artifact unless it is there."""
    store = Store(Path(root))
    with store.claim("prepare", "0" * 16) as work:
        if store.find("prepare", "0" * 16):
            return
        with (Path(root) / "made.log").open("a") as log:
            log.write("made\n")
        out = work / "out"
        out.mkdir()
        (out / "data.txt").write_text("hello")
        store.publish(out, make_manifest(out))


def test_processes_that_want_the_same_artifact_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    racers = [context.Process(target=append_one, args=(str(tmp_path),)) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert (tmp_path / "made.log").read_text() == "made\n"


def test_busy_only_while_claimed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.busy("prepare", "x")
    with store.claim("prepare", "x"):
        assert store.busy("prepare", "x")
    assert not store.busy("prepare", "x")


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot write to"), Store(blocker / "runs").claim("prepare", "x"):
        pass


def test_peak_memory_is_that_of_the_stage_not_of_the_process() -> None:
    # Law: 200 MiB touched between two meters must show in the first and not in the second.
    import numpy as np

    first = Meter()
    block = np.ones(200 * 2**20 // 8)
    during = first.read()["peak_memory_mb"]
    del block
    after = Meter().read()["peak_memory_mb"]
    assert during >= 200
    assert after <= during - 150


def test_cpu_seconds_are_those_of_the_work_not_of_the_wait() -> None:
    # Law: sleeping takes wall time only; computing takes both.
    meter = Meter()
    time.sleep(0.3)
    idle = meter.read()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    busy = meter.read()
    assert idle["seconds"] >= 0.3 > 0.2 > idle["cpu_seconds"]
    assert busy["cpu_seconds"] >= idle["cpu_seconds"] + 0.29


def test_provenance_is_plain_data() -> None:
    record = json.loads(json.dumps(provenance(Meter())))
    assert record["seconds"] >= 0
    assert "torch" in record["versions"]
