"""Command `report`: one HTML page of what the store holds for the chosen data; nothing is made for it."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from adasid_exp.artifacts.failures import Failure, failures
from adasid_exp.artifacts.provenance import commit, hardware
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.artifacts.store import Manifest, Store, signature_of
from adasid_exp.reporting.dashboard import BAR, LINE, Dashboard, load_dashboard
from adasid_exp.reporting.page.codebooks import codebook_view
from adasid_exp.reporting.page.content import (
    Artifact,
    CodebookView,
    FailureView,
    GridView,
    Mark,
    MissingView,
    Page,
    Provenance,
    RunView,
    StageCost,
    Test,
)
from adasid_exp.reporting.page.curves import read_curves
from adasid_exp.reporting.page.html import render
from adasid_exp.reporting.page.plots import Source, cost_plot, dot_plots, drawn, forest_plots, strata_plots
from adasid_exp.reporting.page.settings import flattened
from adasid_exp.reporting.render import duration
from adasid_exp.reporting.statistics import Difference
from adasid_exp.stages.assign import ITEMS
from adasid_exp.stages.base import Stage, plain
from adasid_exp.stages.compare import HOW, Comparison, comparisons
from adasid_exp.stages.grid import Cell, Grid, Row, cells_of, load_grid, rows_on
from adasid_exp.stages.locations import EXPERIMENTS
from adasid_exp.stages.reproduce import own_overrides, report, spots_of
from adasid_exp.stages.schedule import stage_of
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

ORDER = ("table1", "table2", "table3", "table4", "figure3", "figure4", "figure5")
"""The paper's own come first, in its order."""

COMPARISONS = "comparisons"
"""Folder of the store where they are kept."""

DIGEST = re.compile(r"[0-9a-f]{64}")

RETRIEVAL = "retrieval"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A grid on the chosen data, and which of its cells are there."""

    grid: Grid
    rows: Mapping[str, Row]
    cells: Sequence[Cell]
    done: Mapping[Cell, Path]


class Report:
    """What the store holds -> ``<out>``, one page."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    def run(self, store: Store) -> None:
        """Gathers and writes.

        Raises:
            UserError: nothing is there, an unknown grid was asked for, or the extra `report` is not installed.
        """
        started = time.perf_counter()
        found, skipped = self._found(store)
        if not any(each.done for each in found):
            name = self.cfg.data.name
            raise UserError(
                f"{store.root} holds no run of a grid on data={name}; make some: stage=reproduce data={name}"
            )
        text = render(self._page(store, found, skipped))
        out = Path(self.cfg.stage.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = out.with_name(f".{out.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, out)
        spent = duration(time.perf_counter() - started)
        log.info("report: %s (%d grids, %.1f MB, %s)", out, len(found), len(text.encode()) / 1e6, spent)

    def _found(self, store: Store) -> tuple[list[Found], list[tuple[str, str]]]:
        """Grids that have something, and the others with the reason."""
        found, skipped = [], []
        asked = self.cfg.stage.grids
        for name in asked or known_grids():
            grid = load_grid(name)
            try:
                each = self._look(grid, store)
            except UserError as error:
                if asked:
                    raise
                skipped.append((name, f"does not fit data={self.cfg.data.name}: {str(error)[:200]}"))
                continue
            if each.done or asked or not grid.rows:
                found.append(each)
            else:
                skipped.append((name, "no run of it is in the store"))
        return found, skipped

    def _look(self, grid: Grid, store: Store) -> Found:
        rows = rows_on(grid.rows, self.cfg.data.name)
        cells = cells_of(grid, rows, self.cfg.stage.seeds or grid.seeds, own_overrides())
        done = {}
        for cell in cells:
            stage = stage_of(cell.overrides)
            folder = store.find(stage.name, stage.signature)
            if folder is not None:
                done[cell] = folder
        return Found(grid=grid, rows=rows, cells=cells, done=done)

    def _page(self, store: Store, found: Sequence[Found], skipped: Sequence[tuple[str, str]]) -> Page:
        dashboard = load_dashboard(plain(self.cfg.stage.dashboard))
        manifests = manifests_of(found, store)
        logs = Path(self.cfg.runs) / "logs"
        artifacts = [artifact_of(folder, one, logs, dashboard) for folder, one in manifests.values()]
        lost = lost_of(found, store)
        data = self.cfg.data.name
        return Page(
            title=f"Semantic IDs on {data}",
            data=data,
            lead=lead_of(found, [one for _, one in manifests.values()], lost),
            grids=[grid_view(each, store, data) for each in found],
            skipped=skipped,
            runs=[run for each in found for run in runs_of(each, store)],
            artifacts=artifacts,
            dashboard=panels_of(dashboard, artifacts),
            codebooks=codebooks_of(found, store),
            failures=lost,
            missing=[one for each in found for one in missing_of(each, store)],
            provenance=provenance_of([one for _, one in manifests.values()]),
        )


def known_grids() -> list[str]:
    """Every grid file's name, the paper's tables and figures first."""
    names = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
    return [*(name for name in ORDER if name in names), *(name for name in names if name not in ORDER)]


def grid_view(found: Found, store: Store, data: str) -> GridView:
    """Table, significance and figures of a grid."""
    grid, rows = found.grid, found.rows
    compared = remembered(found, store)
    table, runs = report(grid, rows, found.cells, store, data, [])
    tests = [test_of(one, rows) for one in compared]
    source = Source(
        name=grid.name,
        runs=runs,
        spots=spots_of(rows, found.cells, store),
        table=table,
        focus=grid.focus,
        references=frozenset(name for name, row in rows.items() if row.reference),
    )
    return GridView(
        name=grid.name,
        table=table,
        focus=grid.focus,
        references=source.references,
        marks=dict(mark_of(one, rows) for one in compared),
        tests=tests,
        verdicts=[test_of(one, rows) for one in compared if one.best],
        figures=[figure for figure in figures_of(grid, source, tests) if figure is not None],
        done=len(found.done),
        total=len(found.cells),
    )


def remembered(found: Found, store: Store) -> list[Comparison]:
    """The grid's comparisons: bootstraps take seconds, so the store keeps them as long as the runs are the same."""
    asked = {
        "focus": found.grid.focus,
        "compared": {part: list(names) for part, names in found.grid.compared.items()},
        "rows": {name: row.reference for name, row in found.rows.items()},
        "runs": [[cell.row, cell.part, cell.seed, folder.name] for cell, folder in found.done.items()],
        "how": asdict(HOW),
    }
    path = store.root / COMPARISONS / f"{found.grid.name}-{signature_of(asked)}.json"
    if path.is_file():
        return [_comparison(tree) for tree in json.loads(path.read_text())]
    compared = list(comparisons(found.grid, found.rows, found.cells, store))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(one) for one in compared]))
    except OSError as error:
        log.info("comparisons are not kept for next time: %s", error)
    return compared


def _comparison(tree: Mapping[str, Any]) -> Comparison:
    return Comparison(**{**tree, "seeds": tuple(tree["seeds"]), "difference": Difference(**tree["difference"])})


def figures_of(grid: Grid, source: Source, tests: Sequence[Test]) -> Iterator[Any]:
    """What the grid's file asks for, then what every grid has that its columns allow."""
    for name, node in grid.figures.items():
        yield drawn(instantiate(node), name, source)
    better = [column for column in source.table.columns if column.higher_is_better is not None]
    if len(source.spots) > 1:
        yield dot_plots(source, "metrics", "Every metric by row", better)
    yield forest_plots(source, tests)
    yield strata_plots(source)
    quality = next((column for column in better if column.part == RETRIEVAL), None)
    chosen = next((column for column in better if column.key.endswith("test/recall@50")), quality)
    if chosen is not None:
        yield cost_plot(source, chosen)


def test_of(one: Comparison, rows: Mapping[str, Row]) -> Test:
    """The comparison by the labels of its rows."""
    return Test(
        part=one.part,
        metric=one.metric,
        focus=rows[one.row].label,
        against=rows[one.against].label,
        difference=one.difference.value,
        low=one.difference.low,
        high=one.difference.high,
        p_value=one.difference.p_value,
        users=one.difference.users,
        seeds=one.seeds,
    )


def mark_of(one: Comparison, rows: Mapping[str, Row]) -> tuple[tuple[str, str, str], Mark]:
    """Where the other row stands seen from the focus: above it, below it, or undecided."""
    found = test_of(one, rows)
    sign = "≈" if not found.decided else "▼" if found.low > 0 else "▲"
    words = {"≈": "not told apart from", "▼": "below", "▲": "above"}[sign]
    text = (
        f"{words} {found.focus}: difference {-found.difference:+.4f}, 95 % interval "
        f"[{-found.high:+.4f}, {-found.low:+.4f}], p = {found.p_value:.4f}"
    )
    return (one.against, one.part, f"test/{one.metric}"), Mark(sign=sign, text=text)


def runs_of(found: Found, store: Store) -> Iterator[RunView]:
    """The finished cells, what they rest on and what they reached."""
    for cell, folder in found.done.items():
        part = found.grid.parts[cell.part]
        figures = json.loads((folder / METRICS).read_text())
        yield RunView(
            grid=found.grid.name,
            grid_title=found.grid.title,
            row=cell.row,
            label=found.rows[cell.row].label,
            part_title=part.title,
            seed=cell.seed,
            roles=roles_of(stage_of(cell.overrides), store),
            figures={title: figures[key] for key, title in part.metrics.items() if key in figures},
        )


def roles_of(stage: Stage, store: Store) -> dict[str, str]:
    """Signatures of what a cell rests on, itself first; a stage that is there twice is told by what it is read as."""
    named: dict[str, dict[str, str]] = {}
    for each, role in reversed([*_with_roles(stage)]):
        if store.find(each.name, each.signature):
            named.setdefault(each.name, {}).setdefault(each.signature, role)
    return {
        name if len(several) == 1 else f"{name} {role}": signature
        for name, several in named.items()
        for signature, role in several.items()
    }


def _with_roles(stage: Stage) -> Iterator[tuple[Stage, str]]:
    stages = list(stage.walk())
    roles = {upstream.signature: role for each in stages for role, upstream in each.upstream.items()}
    for each in stages:
        yield each, roles.get(each.signature, each.name)


def manifests_of(found: Sequence[Found], store: Store) -> dict[str, tuple[Path, Manifest]]:
    """Folder and manifest of every artifact that the finished cells rest on, by signature."""
    manifests: dict[str, tuple[Path, Manifest]] = {}
    for each in found:
        for cell in each.done:
            for stage in stage_of(cell.overrides).walk():
                if stage.signature not in manifests:
                    folder = store.find(stage.name, stage.signature)
                    if folder is not None:
                        manifests[stage.signature] = folder, Manifest.load(folder)
    return manifests


def artifact_of(folder: Path, manifest: Manifest, logs: Path, dashboard: Dashboard) -> Artifact:
    """What the page tells of an artifact."""
    made = {key: manifest.provenance[key] for key in ("commit", "hardware", "python", "versions")}
    return Artifact(
        stage=manifest.stage,
        label=manifest.label,
        signature=manifest.signature,
        settings=flattened({"version of the stage": manifest.version, **manifest.settings}),
        provenance=flattened(made),
        metrics=_shown(folder / METRICS, manifest.stage, dashboard),
        curves=read_curves(logs / manifest.stage / f"{manifest.label}-{manifest.signature}"),
    )


def _shown(path: Path, stage: str, dashboard: Dashboard) -> dict[str, float]:
    """The figures of an artifact that panels with bars show."""
    panels = [panel for section in dashboard.sections for panel in section.panels]
    panels = [panel for panel in panels if panel.kind == BAR and panel.stage == stage]
    if not panels or not path.is_file():
        return {}
    figures = json.loads(path.read_text())
    return {name: figures[name] for panel in panels for name in panel.of(figures)}


def panels_of(dashboard: Dashboard, artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """The dashboard's lines and bars, names of metrics spelt out, and whatever else was logged, folded.

    Pictures of codebooks, tables and figures have places of their own on the page.
    """
    logged: dict[str, dict[str, None]] = {}
    for one in artifacts:
        logged.setdefault(one.stage, {}).update(dict.fromkeys((*one.curves, *one.metrics)))
    sections, seen = [], set()
    for section in dashboard.sections:
        panels = []
        for panel in section.panels:
            names = panel.of(logged.get(panel.stage, ()))
            if names and panel.kind in (LINE, BAR):
                seen.update((panel.stage, name) for name in names)
                panels.append(
                    {"title": panel.title, "stage": panel.stage, "metrics": names, "kind": panel.kind, "x": panel.x}
                )
        if panels:
            sections.append({"title": section.title, "panels": panels, "folded": False})
    rest = [
        {"title": f"{stage}: {name}", "stage": stage, "metrics": [name], "kind": LINE, "x": "epoch"}
        for stage, names in logged.items()
        for name in names
        if (stage, name) not in seen
    ]
    return (
        [*sections, {"title": "Everything else that was logged", "panels": rest, "folded": True}] if rest else sections
    )


def codebooks_of(found: Sequence[Found], store: Store) -> list[CodebookView]:
    """The tokenizers behind the cells of the lowest seed; those for retrieval where there are any."""
    tables: dict[str, tuple[Stage, dict[str, None]]] = {}
    for each in found:
        lowest = min((cell.seed for cell in each.done), default=0)
        for cell in each.done:
            for stage in stage_of(cell.overrides).walk() if cell.seed == lowest else ():
                if stage.name == "assign" and store.find(stage.name, stage.signature):
                    tables.setdefault(stage.signature, (stage, {}))[1][each.rows[cell.row].label] = None
    tasks = {stage.task for stage, _ in tables.values()}  # type: ignore[attr-defined]
    wanted = RETRIEVAL if RETRIEVAL in tasks else None
    return [
        _codebook(stage, list(labels), store)
        for stage, labels in tables.values()
        if wanted in (None, stage.task)  # type: ignore[attr-defined]
    ]


def _codebook(stage: Stage, labels: Sequence[str], store: Store) -> CodebookView:
    folder = store.find(stage.name, stage.signature)
    prepared = store.find("prepare", stage.upstream["dataset"].signature)
    assert folder is not None
    names = ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")
    title = f"{names} — seed {stage.cfg.seed}, for {stage.task}"  # type: ignore[attr-defined]
    items = pl.read_parquet(folder / ITEMS)
    titles = partial(titles_of, catalogue(prepared))
    return codebook_view(stage.signature, title, SemanticIds.load(folder), items, titles)


def catalogue(prepared: Path | None) -> pl.DataFrame | None:
    """Ids and titles of the items, where the prepared data have titles."""
    path = None if prepared is None else prepared / "items.parquet"
    if path is None or not path.is_file() or "title" not in pl.read_parquet_schema(path):
        return None
    return pl.read_parquet(path, columns=["item_id", "title"])


def titles_of(known: pl.DataFrame | None, item_ids: Sequence[str]) -> list[str]:
    """A name for people of each item: its title, or its id where it has none."""
    if known is None:
        return list(item_ids)
    wanted = known.filter(pl.col("item_id").is_in(list(item_ids)))
    found = dict(zip(wanted["item_id"], wanted["title"], strict=True))
    return [f"{title[:90]}" if (title := found.get(name)) else name for name in item_ids]


def lost_of(found: Sequence[Found], store: Store) -> list[FailureView]:
    """Failures on record that keep cells of these grids from being there."""
    recorded = failures(store.root)
    waiting: dict[str, tuple[Failure, dict[str, None]]] = {}
    for each in found if recorded else ():
        for cell in each.cells:
            if cell not in each.done:
                for failure in _failed(cell, recorded, store):
                    text = f"{each.grid.name} {each.rows[cell.row].label} seed {cell.seed}"
                    waiting.setdefault(failure.signature, (failure, {}))[1][text] = None
    return [
        FailureView(title=failure.title, reason=failure.reason, when=failure.when, runs=list(runs))
        for failure, runs in waiting.values()
    ]


def _failed(cell: Cell, recorded: Mapping[str, Failure], store: Store) -> Iterator[Failure]:
    for stage in stage_of(cell.overrides).walk():
        if stage.signature in recorded and store.find(stage.name, stage.signature) is None:
            yield recorded[stage.signature]


def missing_of(found: Found, store: Store) -> Iterator[MissingView]:
    """Rows that lack runs, by block."""
    recorded = failures(store.root)
    lacking: dict[tuple[str, str, str], list[int]] = {}
    for cell in found.cells:
        if cell not in found.done:
            lacking.setdefault((cell.row, cell.part, _state(cell, recorded, store)), []).append(cell.seed)
    for (row, part, state), seeds in lacking.items():
        yield MissingView(
            grid=found.grid.name,
            row=found.rows[row].label,
            part=found.grid.parts[part].title,
            seeds=", ".join(map(str, sorted(seeds))),
            state=state,
        )


def _state(cell: Cell, recorded: Mapping[str, Failure], store: Store) -> str:
    if any(_failed(cell, recorded, store)):
        return "failed"
    stage = stage_of(cell.overrides)
    begun = any((store.root / ".work" / f"{each.name}-{each.signature}").is_dir() for each in stage.walk())
    return "begun" if begun else "not run"


def lead_of(
    found: Sequence[Found], manifests: Sequence[Manifest], lost: Sequence[FailureView]
) -> list[tuple[str, str]]:
    """The figures at the head of the page."""
    statistics = next((one.facts.get("statistics", {}) for one in manifests if one.stage == "prepare"), {})
    sizes = [(name, f"{statistics[name]:,}") for name in ("users", "items", "interactions") if name in statistics]
    done, total = sum(len(each.done) for each in found), sum(len(each.cells) for each in found)
    spent = sum(one.provenance["seconds"] for one in manifests)
    return [
        *sizes,
        ("grids", str(len(found))),
        ("runs there, of all", f"{done} of {total}"),
        ("failed", str(len(lost))),
        ("time of all artifacts", f"{spent / 3600:.1f} h" if spent > 3600 else duration(spent)),
    ]


def provenance_of(manifests: Sequence[Manifest]) -> Provenance:
    """Where, when and with what the artifacts were made."""
    made = [one.provenance for one in manifests]
    versions = (", ".join(f"{name} {version}" for name, version in one["versions"].items()) for one in made)
    created = sorted(one["created"] for one in made)
    facts = [
        ("command", command()),
        ("page made", f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}, commit {commit()}, {hardware()}"),
        ("artifacts made", f"{created[0]} to {created[-1]}" if created else ""),
        ("commits", _distinct(one["commit"] for one in made)),
        ("hardware", _distinct(one["hardware"] for one in made)),
        ("Python", _distinct(one["python"] for one in made)),
        ("libraries", _distinct(versions)),
    ]
    return Provenance(facts=facts, digests=list(_digests(manifests)), costs=_costs(manifests))


def command() -> str:
    """How the page was asked for."""
    return f"adasid {' '.join(HydraConfig.get().overrides.task)}"


def _distinct(texts: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _digests(manifests: Sequence[Manifest]) -> Iterator[tuple[str, str, str]]:
    for one in manifests:
        if one.stage == "prepare":
            for key, value in flattened(one.settings).items():
                if DIGEST.fullmatch(value):
                    yield key.removeprefix("reader.files."), "what was read", value
            for name, record in one.files.items():
                yield name, f"{one.stage} {one.label}, {record['bytes']:,} bytes", record["sha256"]


def _costs(manifests: Sequence[Manifest]) -> list[StageCost]:
    stages = dict.fromkeys(one.stage for one in manifests)
    return [_cost(stage, [one.provenance for one in manifests if one.stage == stage]) for stage in stages]


def _cost(stage: str, made: Sequence[Mapping[str, Any]]) -> StageCost:
    cpu = [one.get("cpu_seconds") for one in made]
    return StageCost(
        stage=stage,
        artifacts=len(made),
        seconds=sum(one["seconds"] for one in made),
        cpu_seconds=None if None in cpu else sum(filter(None, cpu)),
        peak_memory_mb=max(one["peak_memory_mb"] for one in made),
    )
