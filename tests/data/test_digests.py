"""Digests that are remembered are the file's, and are taken anew when the file changes."""

import hashlib
import os
from pathlib import Path

import pytest

from adasid_exp.data.digests import FileDigests


def test_a_digest_is_sha256_and_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "data", tmp_path / "deep" / "cache.json"
    file.write_bytes(b"one")
    assert FileDigests(cache=cache).of(file) == hashlib.sha256(b"one").hexdigest()
    monkeypatch.setattr("adasid_exp.data.digests.file_digest", lambda path: pytest.fail("hashed again"))
    assert FileDigests(cache=cache).of(file) == hashlib.sha256(b"one").hexdigest()


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    file, digests = tmp_path / "data", FileDigests(cache=tmp_path / "cache.json")
    file.write_bytes(b"one")
    digests.of(file)
    file.write_bytes(b"two")  # the same size
    os.utime(file, ns=(1, 1))
    assert digests.of(file) == hashlib.sha256(b"two").hexdigest()


def test_a_cache_that_is_damaged_or_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"one")
    (tmp_path / "cache.json").write_text("[")
    for cache in (tmp_path / "cache.json", file / "below" / "a" / "file.json", None):
        assert FileDigests(cache=cache).of(file) == hashlib.sha256(b"one").hexdigest()
