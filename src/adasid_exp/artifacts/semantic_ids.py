"""The SIDs of a catalogue, as handed to downstream models and shipped to production.

A folder holds ``layout.json``, a table of SIDs by item and the inverse map: ``sids.parquet`` and ``inverse.parquet``,
or where the layout lists ``shards`` one such pair of files a shard. Within the inverse maps of one pass a SID stands
once; items that were appended are in the inverse map of their own shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import torch

from adasid_exp.artifacts.files import link
from adasid_exp.types import PAD, SidTable, UserError

TABLE = "sids.parquet"
INVERSE = "inverse.parquet"
LAYOUT = "layout.json"


@dataclass(frozen=True, kw_only=True)
class SemanticIds:
    """One SID per item, with what is needed to read it.

    Attributes:
        item_ids: the catalogue's own ids, string ``[items]``.
        codes: int16 ``[items, slots]``, ``PAD`` (-1) in unused slots.
        weights: float32 ``[items, slots]``: 1 where a method has no weights, 0 at ``PAD``; behavior slots of
            ADA-SID carry R over its mean.
        modalities: what each slot speaks of.
        sizes: codebook size of each slot.
        ordered: residual SIDs (each slot refines the one before) or parallel slots.
        collisions: which policy parted items that shared a SID and what it left; None where none was asked for.
    """

    item_ids: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    modalities: tuple[str, ...]
    sizes: tuple[int, ...]
    ordered: bool
    collisions: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.item_ids), len(self.sizes))
        if self.codes.shape != shape or self.weights.shape != shape or len(self.modalities) != shape[1]:
            raise ValueError(
                f"{shape[0]} items and {shape[1]} slots, but codes {self.codes.shape}, "
                f"weights {self.weights.shape}, modalities {len(self.modalities)}"
            )
        out = (self.codes < PAD) | (self.codes >= np.asarray(self.sizes))
        if out.any():
            row, slot = np.argwhere(out)[0]
            raise ValueError(
                f"item {self.item_ids[row]} slot {slot} holds code {self.codes[row, slot]}, "
                f"outside [-1, {self.sizes[slot]})"
            )

    def table(self) -> SidTable:
        """The same as tensors, for models."""
        return SidTable(
            codes=torch.from_numpy(self.codes.astype(np.int64)),
            weights=torch.from_numpy(self.weights.astype(np.float32)),
            sizes=self.sizes,
            modalities=self.modalities,
            ordered=self.ordered,
        )

    def frame(self) -> pl.DataFrame:
        """One row per item: ``item_id``, ``codes`` and ``weights`` as fixed-width lists."""
        slots = len(self.sizes)
        return pl.DataFrame(
            {
                "item_id": self.item_ids,
                "codes": pl.Series(self.codes, dtype=pl.Array(pl.Int16, slots)),
                "weights": pl.Series(self.weights, dtype=pl.Array(pl.Float32, slots)),
            }
        )

    def inverse(self) -> pl.DataFrame:
        """One row per distinct SID: ``codes`` and the ``item_ids`` that hold it, in catalogue order."""
        return (
            self.frame()
            .group_by("codes", maintain_order=True)
            .agg(pl.col("item_id").alias("item_ids"))
            .with_columns(pl.col("item_ids").list.len().alias("items"))
        )

    def save(self, folder: Path) -> None:
        """Writes ``sids.parquet``, its inverse map and the slot layout into ``folder``."""
        self.frame().write_parquet(folder / TABLE)
        self.inverse().write_parquet(folder / INVERSE)
        (folder / LAYOUT).write_text(json.dumps(self._layout(), indent=1))

    def _layout(self) -> dict[str, Any]:
        layout: dict[str, Any] = {
            "modalities": self.modalities,
            "sizes": self.sizes,
            "ordered": self.ordered,
            "pad": PAD,
            "items": len(self.item_ids),
        }
        return layout if self.collisions is None else {**layout, "collisions": dict(self.collisions)}

    @classmethod
    def load(cls, folder: Path) -> SemanticIds:
        """Reads what `save` wrote.

        Raises:
            UserError: a file is missing or unreadable.
        """
        try:
            layout = json.loads((folder / LAYOUT).read_text())
            frame = pl.concat([_read(folder, shard) for shard in shards_of(layout)])
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise UserError(f"{folder} holds no readable SIDs ({error}); remake them with stage=assign") from error
        return cls(
            item_ids=frame["item_id"].to_numpy(),
            codes=frame["codes"].to_numpy(),
            weights=frame["weights"].to_numpy(),
            modalities=tuple(layout["modalities"]),
            sizes=tuple(layout["sizes"]),
            ordered=layout["ordered"],
            collisions=layout.get("collisions"),
        )


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Consecutive rows of the catalogue in files of their own.

    Attributes:
        table: name of the file of SIDs.
        inverse: name of the file of its inverse map.
        rows: items.
    """

    table: str
    inverse: str
    rows: int


def shards_of(layout: Mapping[str, Any]) -> tuple[Shard, ...]:
    """The shards that a ``layout.json`` lists; one of all rows where it lists none.

    Raises:
        ValueError: a name leaves the folder, or the rows do not add up.
    """
    default = [{"table": TABLE, "inverse": INVERSE, "rows": layout["items"]}]
    shards = tuple(Shard(**shard) for shard in layout.get("shards", default))
    names = [name for shard in shards for name in (shard.table, shard.inverse)]
    if any(PurePosixPath(name).name != name for name in names):
        raise ValueError(f"{LAYOUT} names files outside its folder")
    if sum(shard.rows for shard in shards) != layout["items"]:
        raise ValueError(f"the shards of {LAYOUT} do not add up to {layout['items']} items")
    return shards


def numbered(number: int, rows: int) -> Shard:
    """The shard of this number."""
    return Shard(table=f"sids-{number:05d}.parquet", inverse=f"inverse-{number:05d}.parquet", rows=rows)


def save_shards(folder: Path, parts: Iterable[SemanticIds], inverses: Iterable[pl.DataFrame]) -> None:
    """Writes a catalogue part by part; neither the parts nor the inverse maps are held together.

    Args:
        folder: an empty folder.
        parts: of one layout, in the order of the catalogue.
        inverses: the inverse map, in as many parts.
    """
    shards: list[Shard] = []
    for part, inverse in zip(parts, inverses, strict=True):
        shards.append(numbered(len(shards), len(part.item_ids)))
        part.frame().write_parquet(folder / shards[-1].table)
        inverse.write_parquet(folder / shards[-1].inverse)
        layout = part._layout()
    _write_layout(folder, layout, shards)


def append(published: Path, new: SemanticIds, folder: Path) -> None:
    """The published SIDs, file by file the same bytes, and one shard more.

    Files are linked where the file system can, else copied.

    Raises:
        UserError: ``published`` is unreadable, or its layout is not that of ``new``.
    """
    layout = read_layout(published)
    own = new._layout()
    different = [key for key in ("modalities", "ordered", "pad") if _plain(own[key]) != layout[key]]
    if different or len(own["sizes"]) != len(layout["sizes"]):
        raise UserError(
            f"sids: {published} has another {' and '.join(different) or 'number of slots'} than the tokenizer's SIDs; "
            "name the SIDs that this tokenizer made"
        )
    shards = shards_of(layout)
    for shard in shards:
        for name in (shard.table, shard.inverse):
            link(published / name, folder / name)
    more = numbered(len(shards), len(new.item_ids))
    new.frame().write_parquet(folder / more.table)
    new.inverse().write_parquet(folder / more.inverse)
    _write_layout(folder, layout, [*shards, more])


def read_layout(folder: Path) -> dict[str, Any]:
    """What ``layout.json`` says.

    Raises:
        UserError: it is missing or unreadable.
    """
    try:
        return json.loads((folder / LAYOUT).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no readable SIDs ({error}); remake them with stage=assign") from error


def stored(folder: Path, column: str, rows: int | None = None) -> np.ndarray:
    """One column of a folder, ``codes`` or ``weights``, ``[items, slots]``, of its first ``rows`` items or all."""
    files = [folder / shard.table for shard in shards_of(read_layout(folder))]
    frame = pl.scan_parquet(files).select(column)
    return np.array((frame if rows is None else frame.head(rows)).collect()[column].to_numpy())


def published_among(folder: Path, item_ids: np.ndarray) -> list[str]:
    """Those of the ids that the folder has a SID of, in the order of the catalogue."""
    files = [folder / shard.table for shard in shards_of(read_layout(folder))]
    wanted = pl.Series(item_ids).cast(pl.String).to_list()
    return (
        pl.scan_parquet(files).select("item_id").filter(pl.col("item_id").is_in(wanted)).collect()["item_id"].to_list()
    )


def _read(folder: Path, shard: Shard) -> pl.DataFrame:
    frame = pl.read_parquet(folder / shard.table)
    if len(frame) != shard.rows:
        raise ValueError(f"{shard.table} has {len(frame)} rows, {shard.rows} were written")
    return frame


def _write_layout(folder: Path, layout: Mapping[str, Any], shards: Sequence[Shard]) -> None:
    listed = [{"table": shard.table, "inverse": shard.inverse, "rows": shard.rows} for shard in shards]
    items = sum(shard.rows for shard in shards)
    (folder / LAYOUT).write_text(json.dumps({**layout, "items": items, "shards": listed}, indent=1))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
