"""The raw embeddings of a catalogue, one array a modality, with each item's training count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from adasid_exp.artifacts.item_vectors import Vectors
from adasid_exp.types import ItemBatch, UserError

_NAMES = "modalities.json"
_COUNT = "count.npy"


@dataclass(frozen=True, kw_only=True)
class ItemEmbeddings:
    """What tokenizers read: modalities by name, in a fixed order, for one task's training part.

    Attributes:
        features: not standardized, float32 ``[items, dim]`` by modality, in memory or on disk; row i is item i.
        count: interactions in the task's training part, int64 ``[items]``.

    Raises:
        ValueError: where shapes or dtypes disagree.
    """

    features: Mapping[str, Vectors]
    count: np.ndarray

    def __post_init__(self) -> None:
        if self.count.ndim != 1 or self.count.dtype != np.int64:
            raise ValueError(f"count is {self.count.dtype} {self.count.shape}, wanted int64 [items]")
        for name, table in self.features.items():
            if table.ndim != 2 or table.dtype != np.float32 or len(table) != len(self.count):
                wanted = f"float32 [{len(self.count)}, dim]"
                raise ValueError(f"modality {name} is {table.dtype} {table.shape}, wanted {wanted}")

    @property
    def dims(self) -> dict[str, int]:
        """The width of each modality."""
        return {name: table.shape[1] for name, table in self.features.items()}

    def batch(self, index: np.ndarray | None = None) -> ItemBatch:
        """The items of ``index`` (int64 ``[items]``; None: the whole catalogue) as tensors on the CPU.

        Tensors of the whole catalogue are the tables themselves where these may be written, be it in memory alone
        (``mmap_mode="c"``): no row is read before it is asked for, and none is held twice.
        """
        rows = np.arange(len(self.count), dtype=np.int64) if index is None else np.asarray(index, np.int64)
        whole = slice(None) if index is None else rows
        features = {name: _tensor(table[whole]) for name, table in self.features.items()}
        return ItemBatch(
            index=torch.from_numpy(rows),
            features=features,
            count=_tensor(self.count[whole]),
        )

    def save(self, folder: Path) -> None:
        """Writes ``modalities.json``, ``count.npy`` and ``feature_<position>.npy`` into ``folder``.

        Raises:
            UserError: where a value is NaN or infinite, with the modality and the first such row.
        """
        for name, table in self.features.items():
            _require_finite(name, table[:])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _NAMES).write_text(json.dumps(list(self.features)), encoding="utf-8")
        np.save(folder / _COUNT, self.count)
        for position, table in enumerate(self.features.values()):
            np.save(folder / _table_file(position), table[:])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Opens what `save` wrote; the tables are memory-mapped, read-only."""
        names: list[str] = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
        features = {name: np.load(folder / _table_file(i), mmap_mode="r") for i, name in enumerate(names)}
        return cls(features=features, count=np.load(folder / _COUNT))


def _table_file(position: int) -> str:
    return f"feature_{position}.npy"  # by position: a modality's name need not be a file name


def _tensor(table: np.ndarray) -> torch.Tensor:
    # torch wants memory it may write.
    return torch.from_numpy(table if table.flags.writeable else table.copy())


def _require_finite(name: str, table: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        raise UserError(
            f"modality {name}: row {bad[0]} holds NaN or Inf ({len(bad)} of {len(table)} rows do): "
            "repair the embedding array or leave the modality out"
        )
