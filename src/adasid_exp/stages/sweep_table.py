"""A multirun's own table: what each point changed and what came of it, as CSV and to the trackers."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import polars as pl
from hydra.core.utils import JobReturn
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.store import Store, signature_of
from adasid_exp.stages.base import Stage, plain
from adasid_exp.stages.ranks import external_seat
from adasid_exp.stages.recording import About, Outcome
from adasid_exp.stages.tracking import recorders, source_of, tell_command

log = logging.getLogger(__name__)

POINTS = "points"
TABLE = "sweep.csv"
OBJECTIVE = "objective"


def keep(sweep: Path, job_return: JobReturn) -> None:
    """Leaves the point of a finished job in the sweep's folder: what it changed, what came of it."""
    cfg = job_return.cfg
    assert cfg is not None
    stage_type = get_class(cfg.stage._target_)
    if not issubclass(stage_type, Stage) or _follows():
        return
    stage = stage_type(cfg)
    folder = Store(Path(cfg.runs)).find(stage.name, stage.signature)
    if folder is None or not (folder / METRICS).exists():
        return
    changed = dict(text.lstrip("+~").split("=", 1) for text in job_return.overrides or () if "=" in text)
    point = {
        "changed": changed,
        OBJECTIVE: job_return.return_value,
        "metrics": json.loads((folder / METRICS).read_text()),
        "artifact": str(folder.resolve()),
        "cfg": {"logger": plain(cfg.logger), "runs": cfg.runs},
    }
    path = sweep / POINTS / f"{signature_of(changed)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(point))


def gather(sweep: Path) -> None:
    """Writes the table of all points and tells trackers."""
    points = [json.loads(path.read_text()) for path in sorted((sweep / POINTS).glob("*.json"))]
    if not points or _follows():
        return
    table = sweep_frame(points)
    table.write_csv(sweep / TABLE)
    log.info("sweep: %d points, table in %s", len(points), sweep / TABLE)
    cfg = OmegaConf.create(points[0]["cfg"])
    if recorders(cfg):
        _tell(cfg, sweep, table, points)


def _tell(cfg: DictConfig, folder: Path, table: pl.DataFrame, points: list[dict[str, Any]]) -> None:
    about = About(
        stage="sweep",
        label=folder.name,
        signature="",
        logs=Path(cfg.runs) / "logs",
        name=f"sweep {folder.name}",
        config={"points": len(points), "folder": str(folder)},
    )
    sources = {point["artifact"]: source_of(Path(point["artifact"])) for point in points}
    outcome = Outcome(output=None, inputs=tuple(sources.values()), tables={"table/sweep": table})
    tell_command(cfg, about, outcome)


def sweep_frame(points: list[dict[str, Any]]) -> pl.DataFrame:
    """A row a point: what differs between points, the objective, every figure; by what differs."""
    keys = {key for point in points for key in point["changed"]}
    varied = sorted(key for key in keys if len({point["changed"].get(key) for point in points}) > 1)
    rows = [
        {key: _number(point["changed"].get(key)) for key in varied} | {OBJECTIVE: point[OBJECTIVE]} | point["metrics"]
        for point in points
    ]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return frame.sort(varied) if varied else frame


def _number(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _follows() -> bool:
    """Whether this is another rank than the first of torchrun or SLURM."""
    seat = external_seat()
    return seat is not None and seat.rank > 0
