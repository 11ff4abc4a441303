"""Digests of input files, remembered by path, size and time of change, since hashing 4 GB takes seconds."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from adasid_exp.artifacts.store import file_digest


class FileDigests:
    """SHA-256 of files; a file whose path, size and modification time are known is not read again.

    Args:
        cache: JSON file that remembers digests between runs, made when first needed; None remembers nothing.
            A cache that cannot be read or written costs time, never a run.
    """

    def __init__(self, *, cache: str | Path | None) -> None:
        self.cache = None if cache is None else Path(cache)

    def of(self, path: Path) -> str:
        """SHA-256 of one file, hex."""
        state = path.stat()
        key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
        known = self._known()
        if key not in known:
            known[key] = file_digest(path)
            self._remember(known)
        return known[key]

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads(self.cache.read_text(encoding="utf-8")) if self.cache else {}
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _remember(self, known: dict[str, str]) -> None:
        if self.cache is None:
            return
        temporary = self.cache.with_name(f"{self.cache.name}.{os.getpid()}")
        try:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
            os.replace(temporary, self.cache)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
