"""Where raw logs lie: a folder of shards, local or behind any URL that fsspec opens."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import PurePosixPath
from typing import IO, Any, TypeVar

import fsspec

from adasid_exp.data.policy import one_line
from adasid_exp.types import UserError

MANIFEST = "shards.json"
"""Where there is one in the root, only the shards it lists are read, and each must hold the rows it says."""
SAMPLES, SAMPLE_BYTES = 16, 1 << 16

Found = TypeVar("Found")
_SEEN: dict[tuple[Any, str, Any], Any] = {}
"""What `LogSource.remembered` found: by look, path and state of the file."""


class LogSource:
    """A folder of shards.

    Args:
        root: path or URL (``s3://``, ``gs://``, ``memory://``, ...).

    Raises:
        UserError: no installed package opens such a URL.
    """

    def __init__(self, *, root: str) -> None:
        self.root = root
        try:
            self._files, self._folder = fsspec.core.url_to_fs(root)
        except (ImportError, ValueError) as error:
            raise UserError(one_line(f"data.root={root} cannot be opened: {error}")) from error
        self.local = "file" in _protocols(self._files)

    def names(self, folder: str, suffix: str) -> list[str]:
        """Files below ``folder`` that end in ``suffix``, relative to the root, sorted."""
        root = PurePosixPath(self._folder)
        found = self._files.find(str(root / folder)) if self._files.isdir(str(root / folder)) else []
        return sorted(PurePosixPath(name).relative_to(root).as_posix() for name in found if name.endswith(suffix))

    def place(self, name: str) -> str:
        """How a message names a file."""
        return f"{self.root.rstrip('/')}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return bool(self._files.isfile(self._path(name)))

    def open(self, name: str) -> IO[bytes]:
        """The file for reading."""
        return self._files.open(self._path(name), "rb")

    def handle(self, name: str) -> Any:
        """What pyarrow reads best: the path of a local file, else an open file."""
        return self._path(name) if self.local else self.open(name)

    @cached_property
    def manifest(self) -> dict[str, int] | None:
        """Rows of each listed file; None without a manifest.

        Raises:
            UserError: it is there but no such list.
        """
        if not self.exists(MANIFEST):
            return None
        try:
            with self.open(MANIFEST) as stream:
                return {str(name): int(rows) for name, rows in json.load(stream).items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                one_line(f'{self.place(MANIFEST)} is no list {{"file": rows}} ({error}); write it again or remove it')
            ) from error

    def digest(self, name: str) -> str:
        """SHA-256 of a file's size and of 16 pieces of 64 KiB spread over it, its two ends included.

        Hashing terabytes whole takes longer than preparing them. The end of a Parquet file holds its footer:
        the place, size and bounds of every column chunk.
        """
        return self.remembered(_sampled, name)

    def remembered(self, look: Callable[[LogSource, str], Found], name: str) -> Found:
        """``look(self, name)``, once a process as long as the file stays as it is: each cell of a grid asks again."""
        key = (look, self._path(name), self._files.ukey(self._path(name)))
        if key not in _SEEN:
            _SEEN[key] = look(self, name)
        found: Found = _SEEN[key]
        return found

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self._folder) / name)


def _sampled(source: LogSource, name: str) -> str:
    with source.open(name) as stream:
        size = stream.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        last = max(0, size - SAMPLE_BYTES)
        for position in sorted({last * sample // (SAMPLES - 1) for sample in range(SAMPLES)}):
            stream.seek(position)
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)
