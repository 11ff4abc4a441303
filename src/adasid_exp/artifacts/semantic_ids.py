"""The SIDs of a catalogue, as handed to downstream models and shipped to production."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

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
            ADA-SID carry R over its mean (spec 1.9).
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
        layout: dict[str, Any] = {
            "modalities": self.modalities,
            "sizes": self.sizes,
            "ordered": self.ordered,
            "pad": PAD,
            "items": len(self.item_ids),
        }
        if self.collisions is not None:
            layout["collisions"] = dict(self.collisions)
        (folder / LAYOUT).write_text(json.dumps(layout, indent=1))

    @classmethod
    def load(cls, folder: Path) -> SemanticIds:
        """Reads what `save` wrote.

        Raises:
            UserError: a file is missing or unreadable.
        """
        try:
            layout = json.loads((folder / LAYOUT).read_text())
            frame = pl.read_parquet(folder / TABLE)
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
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
