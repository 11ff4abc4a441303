"""The vectors of one modality as an artifact: one file, or shards that are never loaded whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adasid_exp.artifacts.files import appear, link
from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.artifacts.prepared_logs import EmbeddingShards

VECTORS = "vectors.npy"
SHARD = "vectors-{:05d}.npy"
BLOCK = 2**16
"""Rows in memory while shards become one file."""


class Vectors(Protocol):
    """An array ``[items, dim]``, or what answers as one does."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def dtype(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class ShardedVectors:
    """Shards that answer as one float32 array ``[items, dim]`` does; what is indexed is read, and nothing else.

    Attributes:
        shards: of float16 or float32.
    """

    shards: EmbeddingShards

    @property
    def shape(self) -> tuple[int, int]:
        """Items and width."""
        return len(self.shards), self.shards.dim

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    @property
    def dtype(self) -> np.dtype:
        """That of what is read, whatever the shards hold."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        index = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        return self.shards.take(index)


def link_shards(shards: EmbeddingShards, folder: Path) -> None:
    """Puts shards into ``folder`` without a copy, where the file system can."""
    for number, file in enumerate(shards.files):
        link(file, folder / SHARD.format(number))


def as_one_array(vectors: Vectors, file: Path) -> np.ndarray:
    """The same vectors as one mapped array: those of shards are written to ``file`` first, once, block by block."""
    if isinstance(vectors, np.ndarray):
        return vectors
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        appear(file, lambda path: _write(vectors, path))
    return np.load(file, mmap_mode="c", allow_pickle=False)


def _write(vectors: Vectors, path: Path) -> None:
    whole = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=vectors.shape)
    for start in range(0, len(vectors), BLOCK):
        whole[start : start + BLOCK] = vectors[start : start + BLOCK]
    whole.flush()


def open_vectors(folder: Path) -> Vectors:
    """The vectors that a stage left in ``folder``, mapped: float32 ``[items, dim]``; writing changes no file."""
    if (folder / VECTORS).exists():
        return np.load(folder / VECTORS, mmap_mode="c", allow_pickle=False)
    files = tuple(sorted(folder.glob("vectors-*.npy")))
    mapped = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
    starts = lengths_to_offsets(np.array([len(each) for each in mapped])).tolist()
    return ShardedVectors(shards=EmbeddingShards(files=files, starts=tuple(starts), dim=mapped[0].shape[1]))
