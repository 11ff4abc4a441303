"""The figures of one finished run and the per-user rows they rest on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from adasid_exp.types import UserError

METRICS = "metrics.json"
ROWS = "rows.parquet"
COUNTS, LENGTHS = "counts.npy", "lengths.npy"
"""Interactions per item and per user, of a `describe` artifact."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a retrieval or ranking run found.

    Attributes:
        metrics: value by ``split/metric``, e.g. ``test/recall@50``.
        rows: one column per field of the test split: ``user``, ``above``, ``tied``, ... for retrieval;
            ``user``, ``item``, ``label``, ``score`` for ranking. Significance tests resample these.
    """

    metrics: Mapping[str, float]
    rows: Mapping[str, np.ndarray]

    def save(self, folder: Path) -> None:
        """Writes ``metrics.json`` and ``rows.parquet``."""
        (folder / METRICS).write_text(json.dumps(dict(sorted(self.metrics.items())), indent=1))
        pl.DataFrame(dict(self.rows)).write_parquet(folder / ROWS)

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Reads what `save` wrote.

        Raises:
            UserError: a file is missing or unreadable.
        """
        try:
            metrics = json.loads((folder / METRICS).read_text())
            rows = pl.read_parquet(folder / ROWS)
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise UserError(f"{folder} holds no readable results ({error}); delete the folder to remake it") from error
        return cls(metrics=metrics, rows={name: rows[name].to_numpy() for name in rows.columns})
