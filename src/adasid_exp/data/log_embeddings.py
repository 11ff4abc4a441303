"""Embedding shards of logs: checked and copied row by row of the catalogue, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from adasid_exp.data.log_items import ItemFormat
from adasid_exp.data.log_source import LogSource
from adasid_exp.data.pieces import Piece
from adasid_exp.data.policy import (
    ARRAY_TYPE,
    NOT_FINITE,
    BadRows,
    Fault,
    fill_with_mean,
    finite_rows,
    one_line,
)
from adasid_exp.types import UserError

VECTORS = "vectors.npy"
BLOCK = 16 << 20
"""Bytes of a shard that are in memory at once."""
FLOATS = (np.float16, np.float32, np.float64)


@dataclass(frozen=True, kw_only=True)
class VectorShard:
    """One shard of one modality.

    Attributes:
        name: of the file.
        first, rows: which rows of the tables of items it belongs to.
        dim: width.
        dtype: as stored.
    """

    name: str
    first: int
    rows: int
    dim: int
    dtype: np.dtype


def survey_embeddings(source: LogSource, form: ItemFormat, rows: int, bad: BadRows) -> dict[str, list[VectorShard]]:
    """Shards by modality; a modality that does not fit the ``rows`` rows of the catalogue is reported whole.

    Raises:
        UserError: a modality does not fit and the policy is to stop.
    """
    if form.embeddings is None:
        return {}
    names = source.names(form.embeddings, ".npy")
    modalities = sorted({_modality(form, name) for name in names})
    surveyed = {
        modality: _survey(source, [name for name in names if _modality(form, name) == modality], rows, bad)
        for modality in modalities
    }
    return {modality: shards for modality, shards in surveyed.items() if shards is not None}


def _modality(form: ItemFormat, name: str) -> str:
    return PurePosixPath(name).relative_to(str(form.embeddings)).parts[0]


def _survey(source: LogSource, names: list[str], rows: int, bad: BadRows) -> list[VectorShard] | None:
    shards: list[VectorShard] = []
    for name in names:
        place = source.place(name)
        try:
            with source.open(name) as stream:
                shape, dtype = read_header(stream)
        except (OSError, ValueError) as error:
            bad.report(file=place, row=None, fault=NO_ARRAY, values={"error": error})
            return None
        if dtype not in FLOATS or len(shape) != 2 or (shards and shape[1] != shards[0].dim):
            bad.report(file=place, row=None, fault=ARRAY_TYPE, values={"dtype": dtype, "shape": shape})
            return None
        first = shards[-1].first + shards[-1].rows if shards else 0
        shards.append(VectorShard(name=name, first=first, rows=shape[0], dim=shape[1], dtype=dtype))
    found = shards[-1].first + shards[-1].rows
    if found != rows:
        bad.report(file=source.place(names[-1]), row=None, fault=ROWS, values={"found": found, "rows": rows})
        return None
    return shards


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array whose values follow in the stream.

    Raises:
        ValueError: not an .npy file, or one in Fortran order.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if fortran and len(shape) > 1:
        raise ValueError("columns lie one after the other (Fortran order)")
    return shape, dtype


@dataclass(frozen=True, kw_only=True)
class Vectors(Piece):
    """The rows of one shard whose items stay.

    Attributes:
        root: of the logs.
        shard: what to copy.
        alive: file of a bool array over the rows of the tables of items.
        on_bad_row: the policy.
    """

    root: str
    shard: VectorShard
    alive: Path
    on_bad_row: str

    def make(self, folder: Path) -> dict[str, Any]:
        """See `Piece.make`."""
        bad, first = BadRows(self.on_bad_row), self.shard.first
        keep = np.load(self.alive, mmap_mode="r")[first : first + self.shard.rows]
        copy_shard(LogSource(root=self.root), self.shard, np.asarray(keep), folder / VECTORS, bad)
        return {"skipped": bad.skipped}


def copy_shard(source: LogSource, shard: VectorShard, keep: np.ndarray, file: Path, bad: BadRows) -> None:
    """Writes the kept rows of a shard as float16 (where it is) or float32.

    A skipped row takes the mean of the good rows of its block, so that it stays in line with its item.

    Args:
        source: the logs.
        shard: what to copy.
        keep: which of its rows stay, bool ``[rows]``.
        file: to write.
        bad: the policy on NaN and Inf.

    Raises:
        UserError: the shard ends early; a value is not finite and the policy is to stop.
    """
    dtype = np.float16 if shard.dtype == np.float16 else np.float32
    out = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=(int(keep.sum()), shard.dim))
    done = 0
    for first, block in blocks(source, shard):
        kept = _finite(block.astype(dtype), source.place(shard.name), first, bad)[keep[first : first + len(block)]]
        out[done : done + len(kept)] = kept
        done += len(kept)
    out.flush()


def blocks(source: LogSource, shard: VectorShard) -> Iterator[tuple[int, np.ndarray]]:
    """An embedding shard in blocks of `BLOCK` bytes, each with the number of rows above it.

    Raises:
        UserError: the shard ends early.
    """
    width = shard.dim * shard.dtype.itemsize
    most = max(1, BLOCK // max(1, width))
    with source.open(shard.name) as stream:
        read_header(stream)
        for first in range(0, shard.rows, most):
            rows = min(most, shard.rows - first)
            data = stream.read(rows * width)
            if len(data) != rows * width:
                raise UserError(
                    one_line(f"{source.place(shard.name)} ends before row {first + rows}; write the shard again")
                )
            yield first, np.frombuffer(data, dtype=shard.dtype).reshape(rows, shard.dim)


def _finite(block: np.ndarray, place: str, first: int, bad: BadRows) -> np.ndarray:
    good = finite_rows(block)
    if good.all():
        return block
    row, more = first + int(np.argmin(good)) + 1, int((~good).sum()) - 1
    bad.report(file=place, row=row, fault=NOT_FINITE, values={"value": "NaN or Inf"}, more=more)
    return fill_with_mean(block, good)


NO_ARRAY = Fault(
    reason="embedding shard that cannot be read",
    problem="the shard is no readable .npy array ({error})",
    remedy="write it with numpy.save",
)
ROWS = Fault(
    reason="embeddings with the wrong number of rows",
    problem="the shards of the modality end with row {found}, the tables of items with row {rows}",
    remedy="compute them again for the items in their present order",
)
