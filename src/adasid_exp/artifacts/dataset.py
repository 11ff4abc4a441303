"""The prepared data set: interactions and catalogue with dense indices, as parquet and npy files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import polars as pl

from adasid_exp.artifacts.offsets import lengths_to_offsets
from adasid_exp.artifacts.store import inside
from adasid_exp.types import UserError

LIKED, DISLIKED, UNKNOWN = 1, 0, -1


class RawSource(Protocol):
    """What a reader hands on (``data.raw.RawTables``, which this floor does not import)."""

    @property
    def interactions(self) -> pl.DataFrame: ...
    @property
    def items(self) -> pl.DataFrame: ...
    @property
    def arrays(self) -> Mapping[str, np.ndarray]: ...
    @property
    def skipped(self) -> Mapping[str, int]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, kw_only=True)
class Histories:
    """Every user's items, oldest first: user ``u`` has ``items[offsets[u] : offsets[u + 1]]``.

    Attributes:
        items: item indices, int64 ``[rows]``.
        offsets: int64 ``[users + 1]``.
    """

    items: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True, kw_only=True)
class DatasetStatistics:
    """The line a report prints about its data; shares and density lie within 0 and 1."""

    users: int
    items: int
    interactions: int
    mean_length: float
    labelled: float
    liked: float | None
    density: float


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Interactions sorted by user, then time, with the catalogue they speak of.

    Users are numbered by sorted id; items keep the order of the source's table, so that arrays stay
    aligned.

    Attributes:
        user: user index, int32 ``[rows]``, ascending.
        item: item index, int32 ``[rows]``.
        timestamp: unix seconds, int64 ``[rows]``, ascending within a user.
        liked: 1 liked, 0 not, -1 unknown, int8 ``[rows]``.
        user_ids: raw id of each user, str ``[users]``.
        item_ids: raw id of each item, str ``[items]``.
        items: catalogue, one row an item in index order: ``item_id`` and what the source knows of it.
        arrays: embeddings that came with the data, by modality, ``[items, dim]``.
        skipped: rows left out while reading, by reason.
        notes: provenance, one line each.
    """

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    liked: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    items: pl.DataFrame
    arrays: Mapping[str, np.ndarray]
    skipped: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def offsets(self) -> np.ndarray:
        """First row of each user and one past the last, int64 ``[users + 1]``."""
        return _offsets(self.user, len(self.user_ids))

    @property
    def position(self) -> np.ndarray:
        """Place of each row in its user's sequence, from 0, int64 ``[rows]``."""
        return np.arange(len(self.user), dtype=np.int64) - self.offsets[self.user]

    @property
    def counts(self) -> np.ndarray:
        """Interactions of each item over the whole data set, int64 ``[items]``."""
        return np.bincount(self.item, minlength=len(self.item_ids)).astype(np.int64, copy=False)

    def histories(self) -> Histories:
        """Every user's whole sequence; what a task may see of it is the split's affair."""
        return Histories(items=self.item.astype(np.int64), offsets=self.offsets)

    def statistics(self) -> DatasetStatistics:
        """Size, mean sequence length, share of rows with a known label, share liked of those, density."""
        rows, users, items = len(self.user), len(self.user_ids), len(self.item_ids)
        known = int(np.count_nonzero(self.liked != UNKNOWN))
        liked = int(np.count_nonzero(self.liked == LIKED))
        return DatasetStatistics(
            users=users,
            items=items,
            interactions=rows,
            mean_length=rows / users,
            labelled=known / rows,
            liked=liked / known if known else None,
            density=rows / (users * items),
        )

    @classmethod
    def from_raw(cls, raw: RawSource, *, minimum_interactions: int) -> Self:
        """Numbers users and items and sorts the rows.

        A user's rows are ordered by timestamp, then by ``position`` where the source has one, then by file
        order.

        Args:
            raw: checked tables; every interaction names an item of ``raw.items``.
            minimum_interactions: drop users and items with fewer interactions until none is left; 0 keeps
                all, items without interactions included.

        Raises:
            UserError: nothing is left.
        """
        rows = _numbered(raw)
        user, item = rows["user"].to_numpy(), rows["item"].to_numpy()
        keep = _core(user, item, minimum_interactions)
        if not keep.any():
            raise UserError(
                f"no interaction is left with data.minimum_interactions={minimum_interactions}; "
                "lower it (0 keeps every row)"
            )
        user_ids, user = _renumber(raw.interactions["user_id"].unique().sort(), user[keep])
        items, item, kept = _catalogue(raw.items, item[keep], drop=minimum_interactions > 0)
        return cls(
            user=user,
            item=item,
            timestamp=rows["timestamp"].to_numpy()[keep],
            liked=rows["liked"].to_numpy()[keep],
            user_ids=user_ids,
            item_ids=_strings(items["item_id"]),
            items=items,
            arrays={name: array if kept is None else array[kept] for name, array in raw.arrays.items()},
            skipped=dict(raw.skipped),
            notes=(*raw.notes, *_core_note(minimum_interactions, int((~keep).sum()))),
        )

    def save(self, folder: Path) -> None:
        """Writes ``{interactions,users,items}.parquet``, ``arrays/*.npy`` and ``dataset.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        columns = {name: getattr(self, name) for name in ("user", "item", "timestamp", "liked")}
        pl.DataFrame(columns).write_parquet(folder / "interactions.parquet")
        pl.DataFrame({"user_id": self.user_ids.tolist()}).write_parquet(folder / "users.parquet")
        self.items.write_parquet(folder / "items.parquet")
        (folder / "arrays").mkdir(exist_ok=True)
        for name, array in self.arrays.items():
            np.save(folder / "arrays" / f"{name}.npy", array)
        about = {
            "arrays": sorted(self.arrays),
            "skipped": dict(self.skipped),
            "notes": self.notes,
            "statistics": asdict(self.statistics()),
        }
        (folder / "dataset.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what ``save`` wrote; arrays stay on disk (memory-mapped) until they are used."""
        about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        rows = pl.read_parquet(folder / "interactions.parquet")
        items = pl.read_parquet(folder / "items.parquet")
        return cls(
            **{name: rows[name].to_numpy() for name in ("user", "item", "timestamp", "liked")},
            user_ids=_strings(pl.read_parquet(folder / "users.parquet")["user_id"]),
            item_ids=_strings(items["item_id"]),
            items=items,
            arrays={name: np.load(inside(folder / "arrays", f"{name}.npy"), mmap_mode="r") for name in about["arrays"]},
            skipped=about["skipped"],
            notes=tuple(about["notes"]),
        )


def _numbered(raw: RawSource) -> pl.DataFrame:
    """Rows ``user, item, timestamp, liked`` with indices, sorted by user and time."""
    if not raw.interactions.height:
        raise UserError("the data hold no interaction that can be used; see data.root and data.on_bad_row")
    users = raw.interactions.select(pl.col("user_id").unique().sort()).with_row_index("user")
    items = raw.items.select("item_id").with_row_index("item")
    order = ["user", "timestamp", *(["position"] if "position" in raw.interactions.columns else [])]
    liked = pl.col("liked").cast(pl.Int8).fill_null(UNKNOWN)
    rows = (
        raw.interactions.lazy()
        .join(users.lazy(), on="user_id", how="left", maintain_order="left")
        .join(items.lazy(), on="item_id", how="left", maintain_order="left")
        .with_columns(pl.col("user", "item").cast(pl.Int32), liked)
        .sort(order, maintain_order=True, nulls_last=True)
        .select("user", "item", "timestamp", "liked")
        .collect()
    )
    if rows["item"].null_count():
        raise ValueError(f"{rows['item'].null_count()} interactions name an item that the item table lacks")
    return rows


def _core(user: np.ndarray, item: np.ndarray, least: int) -> np.ndarray:
    """Mask of the rows of the k-core: every user and item left has at least ``least`` rows."""
    keep = np.ones(len(user), dtype=bool)
    while least > 0 and keep.any():
        few = (np.bincount(user[keep])[user[keep]] < least) | (np.bincount(item[keep])[item[keep]] < least)
        if not few.any():
            break
        keep[np.flatnonzero(keep)[few]] = False
    return keep


def _renumber(ids: pl.Series, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids that still occur and the index into them."""
    kept, dense = np.unique(index, return_inverse=True)
    return _strings(ids.gather(kept)), dense.astype(np.int32)


def _catalogue(
    items: pl.DataFrame, index: np.ndarray, drop: bool
) -> tuple[pl.DataFrame, np.ndarray, np.ndarray | None]:
    """The items that stay, the index into them, and which rows of the source they are (None: all)."""
    if not drop:
        return items, index, None
    kept, dense = np.unique(index, return_inverse=True)
    return items[kept], dense.astype(np.int32), kept


def _core_note(least: int, dropped: int) -> tuple[str, ...]:
    return (f"{least}-core filter: {dropped:,} interactions dropped",) if least else ()


def _offsets(user: np.ndarray, users: int) -> np.ndarray:
    return lengths_to_offsets(np.bincount(user, minlength=users))


def _strings(ids: pl.Series) -> np.ndarray:
    """Fixed-width unicode array: unlike an object array it is saved and compared without pickles."""
    return np.asarray(ids.to_list(), dtype=np.str_)
