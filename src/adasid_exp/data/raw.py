"""What every reader of raw data hands on: two tables and the arrays that came with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.artifacts.dataset import Dataset

LIKED_ABOVE = 3.0
"""A rating above it is a like."""


@dataclass(frozen=True, kw_only=True)
class RawTables:
    """A catalogue and what its users did, checked but not yet turned into dense indices.

    Attributes:
        interactions: one row an interaction, in file order: ``user_id`` str, ``item_id`` str, ``timestamp``
            int64 (unix seconds), ``liked`` bool (null: unknown) and, where the source has one, ``position``
            int32, which orders the interactions of one user at one timestamp.
        items: one row an item: ``item_id`` str and whatever the source knows of ``title`` str, ``brand`` str,
            ``price`` float64, ``categories`` list[str], ``description`` str; further columns as they came.
        arrays: embeddings by modality name, ``[items, dim]``, rows in the order of ``items``.
        skipped: rows (or files) left out, by reason; empty where everything was used.
        notes: where the data came from and what was done to them, one line each, for the reports.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Reader(ABC):
    """A source of raw data."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Everything the prepared data depend on, as plain values: digests of the input files and the parameters."""

    @abstractmethod
    def prepare(self, *, work: Path, out: Path, minimum_interactions: int) -> dict[str, Any]:
        """Writes the prepared data into ``out`` and returns ``statistics, skipped, notes``.

        Args:
            work: outlives an interruption.
            out: an empty folder.
            minimum_interactions: drop users and items with fewer, until none is left.

        Raises:
            UserError: a file is missing or a row cannot be used, and the policy is to stop.
        """


class TableReader(Reader):
    """A source that fits into memory: two tables and arrays."""

    @abstractmethod
    def read(self) -> RawTables:
        """The checked tables.

        Raises:
            UserError: a file is missing or a row cannot be used, and the policy is to stop.
        """

    def prepare(self, *, work: Path, out: Path, minimum_interactions: int) -> dict[str, Any]:
        """Writes a `Dataset`; see `Reader.prepare`."""
        raw = self.read()
        dataset = Dataset.from_raw(raw, minimum_interactions=minimum_interactions)
        dataset.save(out)
        return {
            "statistics": asdict(dataset.statistics()),
            "skipped": dict(raw.skipped),
            "notes": list(raw.notes),
        }


def with_liked(rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` as ``RawTables.interactions``; where ``liked`` is absent or null, a ``rating`` tells it."""
    told = [pl.col("liked")] if "liked" in rows.columns else []
    rated = [pl.col("rating") > LIKED_ABOVE] if "rating" in rows.columns else []
    liked = pl.coalesce(*told, *rated, pl.lit(None, dtype=pl.Boolean)).alias("liked")
    order = ["position"] if "position" in rows.columns else []
    return rows.select("user_id", "item_id", "timestamp", liked, *order)
