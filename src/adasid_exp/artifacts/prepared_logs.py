"""Prepared logs: the histories and impressions of sharded logs as flat arrays on disk, read by memory map.

A folder (every ``.npy`` is a plain array, every count stands in ``logs.json`` as well)::

    logs.json                       format, schema, sizes, digests, windows, what was skipped
    items.parquet                   the catalogue, row = item index: item_id, count, further columns as they came
    embeddings/<modality>/*.npy     float16 or float32 [rows, dim], shards in item order
    partition-00000/                the users whose hash falls there, sorted by id
        user_id.parquet             raw ids, row = local user index
        offsets.npy, item.npy, timestamp.npy             interactions, by user, oldest first
        impression_{user,item,timestamp,count}.npy       impressions, by (user, timestamp)
        label.npy, history_end.npy                       of the impressions
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.artifacts.store import file_digest, inside
from adasid_exp.types import UserError

FORMAT, VERSION = "adasid-logs", 1
INDEX, CATALOGUE, EMBEDDINGS, USER_ID = "logs.json", "items.parquet", "embeddings", "user_id.parquet"

PER_ROW = {"item": np.int32, "timestamp": np.int64}
"""Arrays with one entry an interaction."""
PER_IMPRESSION = {
    "impression_user": np.int32,
    "impression_item": np.int32,
    "impression_timestamp": np.int64,
    "impression_count": np.int32,
    "label": np.int8,
    "history_end": np.int64,
}
"""Arrays with one entry an impression."""
SCHEMA = {"offsets": np.int64, **PER_ROW, **PER_IMPRESSION}


class _FieldsOnly:
    """Pickled without its memory maps: a map would travel as the whole array."""

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class PartitionArrays:
    """One partition in memory.

    Attributes:
        user_id: raw ids, sorted, text or int64 ``[users]``.
        offsets: first row of each user and one past the last, int64 ``[users + 1]``.
        item: item index, int32 ``[rows]``; a user's rows are the last she has, oldest first.
        timestamp: in ticks, int64 ``[rows]``, ascending within a user.
        impression_user: local user index, int32 ``[impressions]``, ascending.
        impression_item: item index, int32 ``[impressions]``.
        impression_timestamp: in ticks, int64 ``[impressions]``, ascending within a user.
        impression_count: interactions with the item, of all users, in the days before the test window,
            int32 ``[impressions]``.
        label: 1 taken, 0 not, int8 ``[impressions]``.
        history_end: row one past the user's last interaction strictly before the impression, int64
            ``[impressions]``.

    Raises:
        ValueError: shapes or dtypes disagree.
    """

    user_id: pl.Series
    offsets: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    impression_user: np.ndarray
    impression_item: np.ndarray
    impression_timestamp: np.ndarray
    impression_count: np.ndarray
    label: np.ndarray
    history_end: np.ndarray

    def __post_init__(self) -> None:
        rows, impressions = len(self.item), len(self.label)
        lengths = {"offsets": len(self.user_id) + 1, **dict.fromkeys(PER_ROW, rows)}
        lengths |= dict.fromkeys(PER_IMPRESSION, impressions)
        for name, dtype in SCHEMA.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != (lengths[name],):
                raise ValueError(f"{name} is {array.dtype} {array.shape}, wanted {dtype.__name__} [{lengths[name]}]")
        if self.offsets[0] != 0 or self.offsets[-1] != rows:
            raise ValueError(f"offsets run from {self.offsets[0]} to {self.offsets[-1]}, wanted 0 to {rows}")

    def save(self, folder: Path) -> None:
        """Writes the partition's files into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"user_id": self.user_id}).write_parquet(folder / USER_ID)
        for name in SCHEMA:
            np.save(folder / f"{name}.npy", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class LogPartition(_FieldsOnly):
    """One partition on disk; its arrays (see `PartitionArrays`) are mapped when they are first asked for.

    Attributes:
        folder: where its files are.
        first_user: index of its first user among all users: ``first_user + local`` is a user's global index.
        users, rows, impressions: sizes.
    """

    folder: Path
    first_user: int
    users: int
    rows: int
    impressions: int

    def _mapped(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 ``[users + 1]``."""
        return self._mapped("offsets")

    @cached_property
    def item(self) -> np.ndarray:
        """int32 ``[rows]``."""
        return self._mapped("item")

    @cached_property
    def timestamp(self) -> np.ndarray:
        """int64 ``[rows]``."""
        return self._mapped("timestamp")

    @cached_property
    def impression_user(self) -> np.ndarray:
        """int32 ``[impressions]``, local."""
        return self._mapped("impression_user")

    @cached_property
    def impression_item(self) -> np.ndarray:
        """int32 ``[impressions]``."""
        return self._mapped("impression_item")

    @cached_property
    def impression_timestamp(self) -> np.ndarray:
        """int64 ``[impressions]``."""
        return self._mapped("impression_timestamp")

    @cached_property
    def impression_count(self) -> np.ndarray:
        """int32 ``[impressions]``."""
        return self._mapped("impression_count")

    @cached_property
    def label(self) -> np.ndarray:
        """int8 ``[impressions]``."""
        return self._mapped("label")

    @cached_property
    def history_end(self) -> np.ndarray:
        """int64 ``[impressions]``."""
        return self._mapped("history_end")

    def user_ids(self) -> pl.Series:
        """Raw ids of the users, text or int64."""
        return pl.read_parquet(self.folder / USER_ID)["user_id"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingShards(_FieldsOnly):
    """One modality of the catalogue, as shards that are mapped, never loaded whole.

    Attributes:
        files: the shards in item order.
        starts: first item of each shard and one past the last.
        dim: width.
    """

    files: tuple[Path, ...]
    starts: tuple[int, ...]
    dim: int

    def __len__(self) -> int:
        return self.starts[-1]

    @cached_property
    def shards(self) -> tuple[np.ndarray, ...]:
        """The mapped shards, float16 or float32 ``[rows, dim]``."""
        return tuple(np.load(file, mmap_mode="r", allow_pickle=False) for file in self.files)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of the items ``rows`` (int64, any order), float32 ``[rows, dim]``.

        Raises:
            IndexError: a row lies outside the catalogue.
        """
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} items")
        out = np.empty((len(rows), self.dim), dtype=np.float32)
        shard = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(shard):
            here = shard == number
            out[here] = self.shards[number][rows[here] - self.starts[number]]
        return out


@dataclass(frozen=True, kw_only=True)
class PreparedLogs:
    """A folder of prepared logs.

    Attributes:
        folder: where it is.
        partitions: in the order of their users' global indices.
        items, users: sizes.
        about: what ``logs.json`` says: ``statistics``, ``windows``, ``skipped``, ``notes``, ...
    """

    folder: Path
    partitions: tuple[LogPartition, ...]
    items: int
    users: int
    about: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Opens what `write_index` completed; compares sizes, reads no array.

        Raises:
            UserError: the index or a file is missing, of another format, or not as long as it was written.
        """
        about = _read_index(folder)
        for name, record in about["files"].items():
            _check_file(folder, name, record["bytes"])
        return cls(
            folder=folder,
            partitions=tuple(_partitions(folder, about["partitions"])),
            items=about["items"],
            users=about["users"],
            about=about,
        )

    def catalogue(self) -> pl.LazyFrame:
        """The items, one row an item in index order: ``item_id``, ``count`` and what came with them."""
        return pl.scan_parquet(self.folder / CATALOGUE)

    def item_ids(self) -> np.ndarray:
        """Raw ids of the items, str ``[items]``."""
        ids = self.catalogue().select(pl.col("item_id").cast(pl.String)).collect()["item_id"]
        return np.asarray(ids.to_list(), dtype=np.str_)

    def counts(self) -> np.ndarray:
        """Interactions of each item over all time, int64 ``[items]``."""
        return self.catalogue().select("count").collect()["count"].to_numpy().astype(np.int64, copy=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the embeddings that came with the logs."""
        return tuple(self.about["embeddings"])

    def embeddings(self, modality: str) -> EmbeddingShards:
        """The vectors of one modality.

        Raises:
            UserError: the logs bring no such modality.
        """
        if modality not in self.about["embeddings"]:
            found = ", ".join(self.modalities) or "none"
            raise UserError(f"{self.folder} holds no embeddings of modality {modality!r} (there are: {found})")
        record = self.about["embeddings"][modality]
        shards = record["shards"]
        return EmbeddingShards(
            files=tuple(inside(self.folder, shard["name"]) for shard in shards),
            starts=tuple(_running_sum(shards, "rows")),
            dim=record["dim"],
        )


def partition_name(number: int) -> str:
    """The folder of partition ``number``."""
    return f"partition-{number:05d}"


def save_embeddings(folder: Path, modality: str, shards: Sequence[np.ndarray]) -> None:
    """Writes shards (float16 or float32 ``[rows, dim]``, in item order) of one modality."""
    target = folder / EMBEDDINGS / modality
    target.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        np.save(target / f"{number:05d}.npy", shard)


def write_index(folder: Path, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Completes a folder whose other files are written: measures them and writes ``logs.json``.

    Args:
        folder: with ``items.parquet``, ``partition-*`` and ``embeddings``.
        facts: what else to record (``windows``, ``statistics``, ``skipped``, ``notes``, ...).

    Returns:
        The index as it was written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    partitions = [_sizes(path) for path in sorted(folder.glob("partition-*"))]
    about: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "schema": {name: dtype.__name__ for name, dtype in SCHEMA.items()},
        "items": pl.scan_parquet(folder / CATALOGUE).select(pl.len()).collect().item(),
        **{total: sum(part[total] for part in partitions) for total in ("users", "rows", "impressions")},
        "partitions": partitions,
        "embeddings": {path.name: _modality(folder, path) for path in sorted((folder / EMBEDDINGS).glob("*"))},
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)} for name in names
        },
    }
    about |= dict(facts)
    (folder / INDEX).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def _sizes(folder: Path) -> dict[str, Any]:
    lengths = {name: len(_array(folder / f"{name}.npy")) for name in ("offsets", "item", "label")}
    return {
        "name": folder.name,
        "users": lengths["offsets"] - 1,
        "rows": lengths["item"],
        "impressions": lengths["label"],
    }


def _modality(folder: Path, path: Path) -> dict[str, Any]:
    shards = {file.relative_to(folder).as_posix(): _array(file) for file in sorted(path.glob("*.npy"))}
    first = next(iter(shards.values()))
    return {
        "dim": first.shape[1],
        "dtype": first.dtype.name,
        "shards": [{"name": name, "rows": len(array)} for name, array in shards.items()],
    }


def _array(file: Path) -> np.ndarray:
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); make it with stage=prepare data=logs") from error
    if not isinstance(about, dict) or (about.get("format"), about.get("version")) != (FORMAT, VERSION):
        raise UserError(f"{path} is not of format {FORMAT} {VERSION}; make it again with stage=prepare data=logs")
    return about


def _check_file(folder: Path, name: str, size: int) -> None:
    path = inside(folder, name)
    found = path.stat().st_size if path.is_file() else -1
    if found != size:
        problem = "is missing" if found < 0 else f"has {found} bytes, {size} were written"
        raise UserError(f"{path} {problem}; delete the folder {folder} and run stage=prepare data=logs again")


def _partitions(folder: Path, records: Sequence[Mapping[str, Any]]) -> Iterable[LogPartition]:
    starts = _running_sum(records, "users")
    for first_user, record in zip(starts, records, strict=False):
        sizes = {name: record[name] for name in ("users", "rows", "impressions")}
        yield LogPartition(folder=inside(folder, record["name"]), first_user=first_user, **sizes)


def _running_sum(records: Sequence[Mapping[str, Any]], name: str) -> list[int]:
    return lengths_to_offsets(np.array([record[name] for record in records])).tolist()
