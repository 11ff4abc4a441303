"""Where artifacts live: named by what they depend on, written whole or not at all.

A store is a folder::

    <root>/<stage>/<label>-<signature>/     a finished artifact, its ``manifest.json`` last to be written
    <root>/.work/<stage>-<signature>/       what an unfinished attempt left: checkpoints to resume from
    <root>/.locks/<stage>-<signature>.lock  held while an artifact is being made

A signature is a hash of the resolved settings a stage uses, of the signatures of its inputs and of the
stage's own version number, so it changes when, and only when, the result may change.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adasid_exp.types import UserError

MANIFEST = "manifest.json"


def signature_of(tree: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of ``tree`` as canonical JSON (keys sorted, no spaces).

    Raises:
        TypeError: a value is not plain data.
    """
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact says of itself.

    Attributes:
        stage, version, label, signature: who made it and under which name.
        settings: the resolved configuration it depends on.
        inputs: signature of each artifact it was made from, by role.
        files: size in bytes and SHA-256 of each file, by path within the artifact.
        facts: figures the stage wants on record (sizes, notes, metrics).
        provenance: commit, hardware, library versions, seconds, peak memory. Not part of the signature.
    """

    stage: str
    version: int
    label: str
    signature: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Reads ``folder/manifest.json``.

        Raises:
            UserError: the file is missing or is not a manifest.
        """
        try:
            return cls(**json.loads((folder / MANIFEST).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{folder} holds no readable manifest ({error}); delete the folder to remake it") from error

    def check(self, folder: Path) -> None:
        """Compares file sizes with the record.

        Raises:
            UserError: a file is missing, has another size than was written, or lies outside the folder.
        """
        for name, record in self.files.items():
            path = inside(folder, name)
            size = path.stat().st_size if path.is_file() else -1
            if size != record["bytes"]:
                found = "is missing" if size < 0 else f"has {size} bytes, {record['bytes']} were written"
                raise UserError(f"{path} {found}; delete the folder {folder} to remake it")


def inside(folder: Path, name: str) -> Path:
    """``folder / name``, for names that a file on disk gives.

    Raises:
        UserError: that is not below ``folder``, be it by ``..``, by an absolute path or by a link.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or path == folder:
        raise UserError(f"{folder} names a file outside of itself, {name!r}: it was tampered with, do not use it")
    return path


FULL_OR_FORBIDDEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)

SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""All that numpy says of a full disk."""


def disk_trouble(error: BaseException) -> str | None:
    """What the disk refused, if that is behind ``error``: some libraries wrap the reason in errors of their own."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in FULL_OR_FORBIDDEN:
            return f"{link.strerror}: {link.filename}" if link.filename else str(link.strerror)
        if SHORT_WRITE.fullmatch(str(link)):
            return "it took fewer bytes than were written, so it is full"
        for number in FULL_OR_FORBIDDEN:
            if os.strerror(number) in str(link):
                return os.strerror(number)
        link = link.__cause__ or link.__context__
    return None


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and digest of every file below ``folder``, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in paths
    }


@dataclass(frozen=True)
class Store:
    """A folder of artifacts that several processes may share.

    Attributes:
        root: the folder; made when first written to.
    """

    root: Path

    def folder(self, stage: str, label: str, signature: str) -> Path:
        """Where the artifact of this signature is or will be."""
        return self.root / stage / f"{label}-{signature}"

    def find(self, stage: str, signature: str) -> Path | None:
        """The finished artifact of this signature under whatever label, or None.

        Raises:
            UserError: it is there but damaged.
        """
        for folder in (self.root / stage).glob(f"*-{signature}"):
            if (folder / MANIFEST).exists():
                Manifest.load(folder).check(folder)
                return folder
        return None

    @contextmanager
    def claim(self, stage: str, signature: str) -> Iterator[Path]:
        """Holds the lock of an artifact and yields its work folder, which outlives a failure.

        Raises:
            UserError: the store cannot be written to.
        """
        work = self.root / ".work" / f"{stage}-{signature}"
        locks = self.root / ".locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {self.root} ({error}); set runs=FOLDER to one you own") from error
        with FileLock(locks / f"{stage}-{signature}.lock"):
            work.mkdir(parents=True, exist_ok=True)  # the holder before us cleared it when it finished
            yield work

    def busy(self, stage: str, signature: str) -> bool:
        """Whether another process is making this artifact right now."""
        path = self.root / ".locks" / f"{stage}-{signature}.lock"
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True

    def publish(self, out: Path, manifest: Manifest) -> Path:
        """Turns the finished folder ``out`` into the artifact: manifest, flush, one rename.

        An unfinished folder of the same name (no manifest) is replaced; a finished one never is.
        """
        final = self.folder(manifest.stage, manifest.label, manifest.signature)
        final.parent.mkdir(parents=True, exist_ok=True)
        with (out / MANIFEST).open("w") as stream:
            json.dump(asdict(manifest), stream, indent=1, sort_keys=True, ensure_ascii=False)
            stream.flush()
            os.fsync(stream.fileno())
        if final.exists():
            shutil.rmtree(final)
        os.replace(out, final)
        return final
