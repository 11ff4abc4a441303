"""Learning curves: what a training's CSV log says, metric by metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from adasid_exp.reporting.page.content import Curve
from adasid_exp.types import UserError

METRICS_CSV = "metrics.csv"
"""What Lightning's CSVLogger writes."""

MOST_POINTS = 120
"""Of one curve; every so many are left out of longer ones."""

LOGGED = ("train/", "val/")
"""What belongs into a learning curve; the rest is logged once."""


def read_curves(folder: Path) -> dict[str, Curve]:
    """Every training and validation metric of a log folder, by name; nothing where there is no log.

    Raises:
        UserError: the log is unreadable.
    """
    path = folder / METRICS_CSV
    if not path.is_file():
        return {}
    try:
        frame = pl.read_csv(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path} is no readable log ({' '.join(str(error).split())[:120]}); delete it") from error
    if "step" not in frame.columns:
        return {}
    names = [name for name in frame.columns if name.startswith(LOGGED)]
    means = [pl.col(name).is_not_null() for name in names if name.startswith("train/")]
    trained = frame.filter(pl.any_horizontal(means)) if means else frame.clear()
    return {name: curve for name in names if (curve := _curve(frame, name, _per_epoch(trained), trained))}


def _per_epoch(trained: pl.DataFrame) -> int:
    """Steps of an epoch: modules log their means once an epoch."""
    steps = np.unique(trained["step"].to_numpy()) if len(trained) else np.array([1])
    return int(np.diff(steps, prepend=0).min()) or 1


def _curve(frame: pl.DataFrame, name: str, per_epoch: int, trained: pl.DataFrame) -> Curve | None:
    mine = frame.filter(pl.col(name).is_not_null()).unique("step", keep="last", maintain_order=True).sort("step")
    if name.startswith("val/") and len(trained):
        # After training the best weights are measured once more, at the step where the training means stand.
        mine = mine.join(trained.select("step"), on="step", how="anti", maintain_order="left")
    if not len(mine):
        return None
    if len(mine) > MOST_POINTS:
        mine = mine[np.unique(np.linspace(0, len(mine) - 1, MOST_POINTS).round().astype(int))]
    step = mine["step"].cast(pl.Int64).to_numpy()
    ended = step if name.startswith("train/") else step + 1
    return Curve(
        epoch=(ended / per_epoch).round(2).tolist(),
        step=step.tolist(),
        value=[float(f"{value:.5g}") for value in mine[name].cast(pl.Float64)],
    )
