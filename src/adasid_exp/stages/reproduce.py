"""Command `reproduce`: runs the cells of a grid that have not run yet and writes its table."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from adasid_exp.artifacts.files import folder_at
from adasid_exp.artifacts.provenance import commit, hardware
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.store import Manifest, Store, signature_of
from adasid_exp.reporting.figures import save
from adasid_exp.reporting.plots import Spot
from adasid_exp.reporting.render import csv, duration, latex, markdown, terminal
from adasid_exp.reporting.table import (
    Column,
    Cost,
    Table,
    bound_violations,
    line_of,
    mark_best,
    paper_bound_violations,
    profile_of,
    runs_frame,
)
from adasid_exp.stages.base import Stage
from adasid_exp.stages.compare import Comparison, comparison_frame, comparisons
from adasid_exp.stages.grid import (
    Cell,
    Grid,
    Row,
    cells_of,
    choose_parts,
    choose_rows,
    kept_by_rows,
    load_grid,
    rows_on,
)
from adasid_exp.stages.quiet import quiet
from adasid_exp.stages.recording import About, Outcome
from adasid_exp.stages.schedule import Progress, jobs_of, run_jobs, stage_of
from adasid_exp.stages.tracking import complete, drawable, group_as, recorders, source_of, tell_command
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

RUNS = "runs.csv"

BAR = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
"""What the terminal shows while a grid runs."""


class Reproduce:
    """Grid file -> every missing artifact -> ``<results>/<grid>.{md,csv,tex}`` ``<grid>_tests.csv``,
    figures, and the runs of all grids in ``<results>/runs.csv``."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    def run(self, store: Store) -> None:
        """Runs and reports.

        Raises:
            UserError: unknown grid, part or method, or cells that failed (the table is written all the same).
        """
        asked = self.cfg.stage
        grid = choose_parts(load_grid(asked.grid), asked.parts)
        rows = rows_on(choose_rows(grid, asked.methods), self.cfg.data.name)
        shared = [*own_overrides(), *group_as(self.cfg, grid.name)]
        cells = cells_of(grid, rows, asked.seeds or grid.seeds, shared)
        kept = kept_by_rows(grid, rows, shared)
        for line in kept:
            log.info(line)
        out = folder_at(Path(asked.results), "stage.results")  # before hours of work
        started = time.perf_counter()
        failed = self._make(cells, store)
        found = list(comparisons(grid, rows, cells, store))
        table, runs = report(grid, rows, cells, store, self.cfg.data.name, found)
        command = f"Command: adasid {' '.join(HydraConfig.get().overrides.task)}"
        spent = f"{duration(time.perf_counter() - started)} of wall time for what was not there yet."
        table = replace(table, notes=[*table.notes, *(f"{line}." for line in kept), f"{command}; {spent}"])
        for suffix, text in (("md", markdown(table)), ("csv", csv(table)), ("tex", latex(table))):
            (out / f"{grid.name}.{suffix}").write_text(text)
        keep_runs(runs, grid.name, out / RUNS)
        if found:
            comparison_frame(found).write_csv(out / f"{grid.name}_tests.csv")
        drawn = draw(grid, spots_of(rows, cells, store), runs, out)
        console = Console() if Console().is_terminal else Console(width=140)
        console.print(*(terminal(table) if table.columns else ()), sep="\n")
        for note in table.notes:
            console.print(f"- {note}", markup=False, highlight=False)
        log.info("tables: %s/%s.{md,csv,tex}, every figure of every run: %s/%s", out, grid.name, out, RUNS)
        for name in drawn:
            log.info("figure: %s/%s.{svg,png}", out, name)
        self._tell_loggers(grid, table, runs, spots_of(rows, cells, store), cells, store)
        if failed:
            raise UserError("; ".join(f"{title}: {reason}" for title, reason in failed.items()))

    def _tell_loggers(
        self,
        grid: Grid,
        table: Table,
        runs: pl.DataFrame,
        spots: Mapping[str, Spot],
        cells: Sequence[Cell],
        store: Store,
    ) -> None:
        """The table and the figures, linked to the artifacts they rest on, which are told of if they were found."""
        if not recorders(self.cfg):
            return
        stages = [stage_of(cell.overrides) for cell in cells]
        for stage in stages:
            complete(stage, store)
        found = {stage.signature: store.find(stage.name, stage.signature) for stage in stages}
        about = About(
            stage="reproduce",
            label=f"{grid.name}-{self.cfg.data.name}",
            signature=signature_of({"grid": grid.name, "cells": sorted(found)}),
            logs=Path(self.cfg.runs) / "logs",
            name=f"{grid.name} {self.cfg.data.name}",
            config={"grid": grid.name, "data": self.cfg.data.name, "title": table.title, "notes": list(table.notes)},
        )
        figures = {
            f"figure/{name}": partial(instantiate(node).draw, runs, spots) for name, node in grid.figures.items()
        }
        outcome = Outcome(
            output=None,
            inputs=tuple(source_of(folder) for folder in found.values() if folder is not None),
            pictures=drawable(lambda: figures),
            tables={f"table/{grid.name}": summary_frame(table)},
        )
        tell_command(self.cfg, about, outcome)

    def _make(self, cells: Sequence[Cell], store: Store) -> dict[str, str]:
        jobs = jobs_of([cell.overrides for cell in cells], store)
        if not jobs:
            log.info("all %d cells are there already", len(cells))
            return {}
        processes = min(self.cfg.stage.jobs or os.cpu_count() or 1, len(jobs))
        log.info("%d cells need %d artifacts; %d processes, one thread each", len(cells), len(jobs), processes)
        console = Console(stderr=True)
        if not console.is_terminal:
            return run_jobs(jobs, store.root, processes, quiet, lambda progress: log.info("%s", _line(progress)))
        with Bar(*BAR, console=console, transient=True) as bar:
            task = bar.add_task("", total=len(jobs))
            return run_jobs(
                jobs,
                store.root,
                processes,
                quiet,
                lambda progress: bar.update(task, completed=progress.done, description=escape(_line(progress))),
            )


def own_overrides() -> list[str]:
    """What the user overrode on the command line, but for the stage: every cell takes it over."""
    return [text for text in HydraConfig.get().overrides.task if not text.lstrip("+~").startswith(("stage", "seed="))]


def summary_frame(table: Table) -> pl.DataFrame:
    """The table as trackers show it: a row a method, our mean, spread and the paper's figure of every column."""
    return pl.read_csv(csv(table).encode(), infer_schema_length=None) if table.columns else pl.DataFrame()


def _line(progress: Progress) -> str:
    done = f"{progress.done}/{progress.total} artifacts"
    failed = f", {len(progress.failed)} failed" if progress.failed else ""
    making = f"; making {', '.join(progress.running)}" if progress.running else ""
    return f"{done}{failed}{making}"


def keep_runs(runs: pl.DataFrame, grid: str, path: Path) -> None:
    """Writes the grid's runs into the file of all grids, in place of those of an earlier report."""
    mine = runs.with_columns(grid=pl.lit(grid))
    if path.exists():
        others = pl.read_csv(path, schema_overrides=mine.schema)
        mine = pl.concat([others.filter(pl.col("grid") != grid), mine], how="diagonal")
    mine.write_csv(path)


def spots_of(rows: Mapping[str, Row], cells: Sequence[Cell], store: Store) -> dict[str, Spot]:
    """The rows as figures see them."""
    folders: dict[str, dict[str, Path]] = {name: {} for name in rows}
    for cell in cells:
        stage = stage_of(cell.overrides)
        folder = store.find(stage.name, stage.signature)
        if folder is not None:
            folders[cell.row].setdefault(cell.part, folder)
    return {
        name: Spot(label=row.label, series=row.series, x=row.x, folders=folders[name]) for name, row in rows.items()
    }


def draw(grid: Grid, spots: Mapping[str, Spot], runs: pl.DataFrame, out: Path) -> list[str]:
    """Draws the grid's figures into ``out`` as SVG and PNG; their names."""
    for name, node in grid.figures.items():
        save(instantiate(node).draw(runs, spots), out / name)
    return list(grid.figures)


def report(
    grid: Grid,
    rows: Mapping[str, Row],
    cells: Sequence[Cell],
    store: Store,
    data: str,
    compared: Sequence[Comparison],
) -> tuple[Table, Any]:
    """The table and the tidy runs of what is in the store; cells that are not there stay missing."""
    runs = runs_frame([record for cell in cells for record in _records(cell, store)])
    columns = [
        Column(
            part=name,
            part_title=part.title,
            key=key,
            title=title,
            higher_is_better=part.higher_is_better.get(key),
        )
        for name, part in grid.parts.items()
        for key, title in part.metrics.items()
    ]
    lines = [
        line_of(
            runs,
            name,
            row.label,
            list(row.parts),
            columns,
            row.paper.get(data, {}),
            cost_of(name, cells, store),
        )
        for name, row in rows.items()
    ]
    ranked = [name for name, row in rows.items() if not row.reference]
    notes = [*grid.notes, *_notes(rows, cells, runs, data), *_verdicts(compared, rows), *_colophon()]
    title = f"{grid.title} — {data}"
    lines = mark_best(lines, columns, ranked)
    profiles = [
        profile
        for name, row in rows.items()
        for metric, heading in grid.profiles.items()
        if (profile := profile_of(runs, name, row.label, metric, heading)) is not None
    ]
    return Table(title=title, columns=columns, lines=lines, notes=notes, profiles=profiles), runs


def _records(cell: Cell, store: Store) -> Iterator[dict[str, object]]:
    stage = stage_of(cell.overrides)
    folder = store.find(stage.name, stage.signature)
    if folder is None:
        return
    costs = [Manifest.load(path).provenance for path in _closure(stage, store)]
    for key, value in json.loads((folder / METRICS).read_text()).items():
        split, _, metric = key.rpartition("/")
        yield {
            "method": cell.row,
            "seed": cell.seed,
            "task": cell.part,
            "split": split,
            "metric": metric,
            "value": value,
            "seconds": sum(cost["seconds"] for cost in costs),
            "cpu_seconds": _cpu_seconds(costs),
            "peak_memory_mb": max(cost["peak_memory_mb"] for cost in costs),
            "signature": stage.signature,
        }


def cost_of(row: str, cells: Sequence[Cell], store: Store) -> Cost | None:
    """Time and memory of a row: what its cells of one seed share is counted once; the mean is over seeds."""
    artifacts: dict[int, set[Path]] = {}
    for cell in cells:
        if cell.row == row:
            stage = stage_of(cell.overrides)
            if store.find(stage.name, stage.signature):
                artifacts.setdefault(cell.seed, set()).update(_closure(stage, store))
    if not artifacts:
        return None
    costs = [[Manifest.load(folder).provenance for folder in folders] for folders in artifacts.values()]
    cpu = [_cpu_seconds(seed) for seed in costs]
    return Cost(
        seconds=sum(cost["seconds"] for seed in costs for cost in seed) / len(costs),
        cpu_seconds=None if None in cpu else sum(filter(None, cpu)) / len(cpu),
        peak_memory_mb=max(cost["peak_memory_mb"] for seed in costs for cost in seed),
    )


def _cpu_seconds(costs: Sequence[Mapping[str, Any]]) -> float | None:
    """Sum of the CPU seconds; None where one was not measured."""
    each = [cost.get("cpu_seconds") for cost in costs]
    return None if None in each else float(sum(filter(None, each)))


def _closure(stage: Stage, store: Store) -> Iterator[Path]:
    for each in stage.walk():
        folder = store.find(each.name, each.signature)
        if folder is not None:
            yield folder


def _notes(rows: Mapping[str, Row], cells: Sequence[Cell], runs: Any, data: str) -> Iterator[str]:
    """What the table rests on: modalities, the bound on NDCG here and in the paper."""
    if cells:
        configs = [stage_of(cell.overrides).cfg for cell in cells]
        modalities = ", ".join([*map(str, configs[0].modalities), "behavior"])
        behaviors = ", ".join(dict.fromkeys(cfg.behavior.name for cfg in configs))
        yield f"Data: {data}; modalities: {modalities}; SASRec behind them: {behaviors}."
    if any(cell.part == "retrieval" for cell in cells):
        broken = bound_violations(runs)
        verdict = f"BROKEN by {'; '.join(broken)}" if broken else "holds for every run here"
        yield f"Bound N@100 - N@50 <= (R@100 - R@50)/log2 52: {verdict}."
    paper = {name: row.paper.get(data, {}) for name, row in rows.items()}
    theirs = paper_bound_violations(paper)
    if theirs:
        yield f"Rows of the paper shown here that break that bound: {', '.join(theirs)}."
    if any(paper.values()):
        yield "Figures in brackets are the paper's."


def _verdicts(compared: Sequence[Comparison], rows: Mapping[str, Row]) -> Iterator[str]:
    """The focus against the best baseline, in words; the rest is in the file of tests."""
    for one in compared:
        if one.best:
            yield one.sentence(rows)
    if len(compared) > sum(one.best for one in compared):
        yield "Comparisons with every row, unadjusted for their number, are in the file of tests beside this table."


def _colophon() -> Iterator[str]:
    yield "Time of a row counts every artifact it rests on once."
    yield f"Hardware: {hardware()}. Commit {commit()}."
