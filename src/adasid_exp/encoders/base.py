"""What turns the rows of a catalogue into vectors."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from adasid_exp.artifacts.store import file_digest

Row = Mapping[str, object]
"""One item: its columns by name, ``item_id`` among them; a missing value is ``None`` or absent."""

Progress = Callable[[int, int], None]
"""Called with (done, total) as the work goes on."""


@dataclass(frozen=True, kw_only=True)
class EncodedModality:
    """The vectors of one modality.

    Attributes:
        vectors: float32 ``[items, dim]``, in the order of the rows.
        missing: rows the source has nothing about (no text, no image), ascending; what becomes of them is the
            caller's policy.
    """

    vectors: Tensor
    missing: tuple[int, ...]


class Encoder(ABC):
    """Rows in, vectors out. Constructing one touches no file and imports no heavy library."""

    @abstractmethod
    def fingerprint(self) -> dict[str, object]:
        """All that the vectors depend on besides the rows: plain values that fit in json."""

    @abstractmethod
    def encode(self, rows: Sequence[Row], progress: Progress) -> EncodedModality:
        """The vectors of ``rows``; ``UserError`` where a file, a model or an extra is lacking."""


def digest(files: Iterable[Path]) -> str:
    """sha256 over the names and the bytes of ``files``, whatever their order."""
    total = hashlib.sha256()
    for path in sorted(files):
        known = path.stat()
        inner = _file_digest(path, known.st_size, known.st_mtime_ns)
        total.update(f"{path.name} {inner}\n".encode())
    return total.hexdigest()


@cache
def _file_digest(path: Path, size: int, modified: int) -> str:
    """sha256 of a file, read once a process while it stays the same: every cell of a grid asks for its weights."""
    return file_digest(path)
