"""Numbered versions of what is shipped: each appears whole, none ever changes, equal content is not shipped twice.

A folder of releases holds::

    v0001/          files, `MANIFEST` and `SUMS` (which ``sha256sum -c`` reads); all read-only
    v0002/          the same; a file that is that of an earlier version is linked to it
    index.json      the versions and which is the latest; made from the manifests, last to be written
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from adasid_exp.artifacts.files import appear
from adasid_exp.artifacts.provenance import commit
from adasid_exp.artifacts.store import disk_trouble, list_files
from adasid_exp.types import UserError

INDEX, MANIFEST, SUMS = "index.json", "manifest.json", "SHA256SUMS"
NAME = re.compile(r"v(\d{4,})")
LOCK, DRAFT = ".lock", ".draft"
READ_ONLY = 0o444


@dataclass(frozen=True, kw_only=True)
class Release:
    """One version.

    Attributes:
        folder: where it is.
        manifest: what it says of itself.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def version(self) -> str:
        """``v0001`` and so on."""
        return self.folder.name


@dataclass(frozen=True, kw_only=True)
class Releases:
    """The versions of one thing.

    Attributes:
        root: their folder; made when the first is written.
        kind: what they are of, as their manifests say.
    """

    root: Path
    kind: str

    def all(self) -> list[Release]:
        """The versions there are, oldest first.

        Raises:
            UserError: the folder holds something else.
        """
        if not self.root.exists():
            return []
        found = [path for path in self.root.iterdir() if not path.name.startswith(".")]
        folders = sorted((path for path in found if NAME.fullmatch(path.name)), key=_number)
        if found and not folders:
            raise UserError(f"stage.to: {self.root} holds other things than exports; name a new folder")
        return [Release(folder=folder, manifest=self._manifest(folder)) for folder in folders]

    def latest(self) -> Release | None:
        """The newest version, or None."""
        every = self.all()
        return every[-1] if every else None

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """An empty folder to fill, while no other process may; what is not published is gone afterwards.

        Raises:
            UserError: the folder cannot be written to, or the disk is full.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / LOCK):
                draft = self.root / DRAFT
                shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
                draft.mkdir()
                try:
                    yield draft
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
        except OSError as error:
            trouble = disk_trouble(error)
            if trouble is None:
                raise
            raise UserError(
                f"stage.to: the disk refused while exporting to {self.root}: {trouble}; "
                "what was exported before is intact"
            ) from error

    def publish(self, draft: Path, facts: Mapping[str, Any]) -> Release:
        """Makes the next version of a draft: manifest, digests, one rename, then the index."""
        earlier = self.all()
        version = f"v{_number(earlier[-1].folder) + 1 if earlier else 1:04d}"
        files = list_files(draft)
        manifest = {"kind": self.kind, "format": 1, "version": version, **facts, "files": files, "made": made()}
        _write(draft / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
        digests = {**files, **{MANIFEST: list_files(draft)[MANIFEST]}}
        _write(draft / SUMS, "".join(f"{record['sha256']}  {name}\n" for name, record in digests.items()))
        for path in draft.rglob("*"):
            if path.is_file():
                path.chmod(READ_ONLY)
        os.replace(draft, self.root / version)
        self.write_index()
        return Release(folder=self.root / version, manifest=manifest)

    def write_index(self) -> None:
        """Says which versions there are."""
        versions = [
            {"version": release.version, "created": release.manifest["made"]["created"], **release.manifest["summary"]}
            for release in self.all()
        ]
        index = {"kind": self.kind, "format": 1, "latest": versions[-1]["version"], "versions": versions}
        appear(self.root / INDEX, lambda path: path.write_text(json.dumps(index, indent=1)))

    def _manifest(self, folder: Path) -> Mapping[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f"stage.to: {folder} holds no readable {MANIFEST} ({error}); restore it, or export to a new folder"
            ) from error
        if manifest.get("kind") != self.kind:
            raise UserError(
                f"stage.to: {self.root} holds exports of {manifest.get('kind')}, not of {self.kind}; name another"
            )
        return manifest


def made() -> dict[str, Any]:
    """When and by what."""
    return {
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "adasid_exp": metadata.version("adasid-exp"),
        "commit": commit(),
    }


def _number(folder: Path) -> int:
    match = NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else 0


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
