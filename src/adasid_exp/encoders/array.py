"""Vectors that were made elsewhere: an array file beside a list of item ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from adasid_exp.encoders.base import EncodedModality, Encoder, Progress, Row, digest
from adasid_exp.types import UserError


class ArrayFile(Encoder):
    """Looks items up in a ``.npy`` array by id; items it lacks get zeros and are listed as missing.

    Args:
        vectors: ``.npy`` file, any float or integer type ``[rows, dim]``.
        ids: text file with the item id of each row of the array, one a line.
    """

    def __init__(self, *, vectors: str, ids: str) -> None:
        self.vectors, self.ids = Path(vectors), Path(ids)

    def fingerprint(self) -> dict[str, object]:
        self._check_files()
        return {"encoder": "array", "vectors": digest([self.vectors]), "ids": digest([self.ids])}

    def encode(self, rows: Sequence[Row], progress: Progress) -> EncodedModality:
        table, places = self._table(), self._places()
        if len(table) != len(places):
            raise UserError(f"{self.vectors} has {len(table)} rows but {self.ids} {len(places)} ids: give one an item")
        found = np.array([places.get(str(row["item_id"]), -1) for row in rows], dtype=np.int64)
        if (found < 0).all():
            raise UserError(f"{self.ids} names no item of the catalogue, such as {rows[0]['item_id']}")
        vectors = np.zeros((len(rows), table.shape[1]), dtype=np.float32)
        vectors[found >= 0] = table[found[found >= 0]]
        self._check_values(vectors, found)
        progress(len(rows), len(rows))
        return EncodedModality(vectors=torch.from_numpy(vectors), missing=tuple(np.flatnonzero(found < 0).tolist()))

    def _check_files(self) -> None:
        for path in (self.vectors, self.ids):
            if not path.is_file():
                raise UserError(f"no file {path}: an array modality needs a .npy and its list of item ids")

    def _table(self) -> np.ndarray:
        self._check_files()
        try:
            table = np.load(self.vectors, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UserError(f"{self.vectors} is no .npy array ({error}): write it with numpy.save") from error
        if table.ndim != 2 or table.dtype.kind not in "fiu":
            raise UserError(f"{self.vectors} holds {table.dtype} {list(table.shape)}: numbers [rows, dim] are needed")
        return table

    def _places(self) -> dict[str, int]:
        lines = self.ids.read_text(encoding="utf-8").splitlines()
        places = {line.strip(): row for row, line in enumerate(lines)}
        if len(places) != len(lines):
            twice = next(line for row, line in enumerate(lines) if places[line.strip()] != row)
            raise UserError(f"{self.ids} names {twice.strip()!r} more than once: keep one line an item")
        return places

    def _check_values(self, vectors: np.ndarray, found: np.ndarray) -> None:
        bad = np.flatnonzero(~np.isfinite(vectors).all(1))
        if len(bad):
            raise UserError(f"{self.vectors} row {found[bad[0]]} holds NaN or Inf ({len(bad)} such rows): mend it")
