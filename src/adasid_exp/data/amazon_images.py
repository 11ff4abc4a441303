"""The public image features: fixed-size binary records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adasid_exp.data.policy import (
    NOT_FINITE,
    BadRows,
    Fault,
    fill_with_mean,
    finite_rows,
)
from adasid_exp.types import UserError

IMAGE_DIM = 4096
IMAGE_RECORD = np.dtype([("asin", "S10"), ("vector", "<f4", (IMAGE_DIM,))])
IMAGE_BLOCK = 64 << 20
"""Bytes of image records mapped at once."""
TRUNCATED_IMAGES = Fault(
    reason="incomplete image record",
    problem=f"the last record has {{size}} of {IMAGE_RECORD.itemsize} bytes",
    remedy="download the file again",
)
TWO_IMAGES = Fault(
    reason="second image record of an item",
    problem="an earlier record of the same item holds other numbers",
    remedy="keep one of them",
)


def read_images(file: Path, *, item_ids: Sequence[str], bad: BadRows) -> tuple[np.ndarray, np.ndarray]:
    """Image features of the items, float32 ``[items, 4096]``, and which items have a record, bool.

    The file (4 GB) is mapped block by block: of the records of other items only the id is touched.

    Args:
        file: records of a 10-byte id and 4,096 little-endian float32.
        item_ids: the catalogue, sorted.
        bad: the policy.
    """
    records, extra = divmod(file.stat().st_size, IMAGE_RECORD.itemsize)
    if extra:
        bad.report(file=file, row=records + 1, fault=TRUNCATED_IMAGES, values={"size": extra})
    if not records:
        raise UserError(f"{file} is empty; download the file again or remove it")
    ids = np.array([item.encode() for item in item_ids], dtype=np.bytes_)
    table = _ImageTable(items=len(ids), file=file, bad=bad)
    block = max(1, IMAGE_BLOCK // IMAGE_RECORD.itemsize)
    for first in range(0, records, block):
        mapped = _records(file, first, min(block, records - first))
        names = np.ascontiguousarray(mapped["asin"])
        place = np.minimum(np.searchsorted(ids, names), len(ids) - 1)
        hits = np.flatnonzero(ids[place] == names)
        if len(hits):
            table.take(place[hits], mapped["vector"][hits], rows=first + hits + 1)
    return table.filled(), table.known


def _records(file: Path, first: int, count: int) -> np.ndarray:
    return np.memmap(file, dtype=IMAGE_RECORD, mode="r", offset=first * IMAGE_RECORD.itemsize, shape=(count,))


class _ImageTable:
    """Gathers the catalogue's vectors from blocks of records; the first usable record of an item counts."""

    def __init__(self, *, items: int, file: Path, bad: BadRows) -> None:
        self.vectors = np.zeros((items, IMAGE_DIM), dtype=np.float32)
        self.known = np.zeros(items, dtype=bool)
        self.file, self.bad = file, bad

    def take(self, place: np.ndarray, vectors: np.ndarray, *, rows: np.ndarray) -> None:
        """Records of the items ``place``, which lie at ``rows`` (from 1) of the file."""
        good = finite_rows(vectors)
        self._report(NOT_FINITE, rows[~good])
        place, vectors, rows = place[good], vectors[good], rows[good]
        new = np.zeros(len(place), dtype=bool)
        new[np.unique(place, return_index=True)[1]] = True
        new &= ~self.known[place]
        self.vectors[place[new]] = vectors[new]
        self.known[place] = True
        differs = (self.vectors[place] != vectors).any(axis=1)
        self._report(TWO_IMAGES, rows[differs])

    def filled(self) -> np.ndarray:
        """The vectors, those of items without a record being the mean of the others."""
        return self.vectors if self.known.all() else fill_with_mean(self.vectors, self.known)

    def _report(self, fault: Fault, rows: np.ndarray) -> None:
        if len(rows):
            self.bad.report(
                file=self.file,
                row=int(rows[0]),
                fault=fault,
                values={"value": "NaN or Inf"},
                more=len(rows) - 1,
            )
