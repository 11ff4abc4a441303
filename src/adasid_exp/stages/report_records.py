"""What the report tells of artifacts: settings, curves, codebooks, failures, what is missing, provenance."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from adasid_exp.artifacts.failures import Failure, failures
from adasid_exp.artifacts.provenance import commit, hardware
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.semantic_ids import SemanticIds, read_layout
from adasid_exp.artifacts.store import Manifest, Store
from adasid_exp.reporting.dashboard import BAR, LINE, Dashboard
from adasid_exp.reporting.page.codebooks import codebook_view
from adasid_exp.reporting.page.content import (
    Artifact,
    CodebookView,
    FailureView,
    MissingView,
    Provenance,
    StageCost,
)
from adasid_exp.reporting.page.curves import read_curves
from adasid_exp.reporting.page.settings import flattened
from adasid_exp.reporting.render import duration
from adasid_exp.stages.assign import ITEMS
from adasid_exp.stages.base import Stage
from adasid_exp.stages.grid import Cell
from adasid_exp.stages.report_grids import Found
from adasid_exp.stages.schedule import stage_of

log = logging.getLogger(__name__)

DIGEST = re.compile(r"[0-9a-f]{64}")

RETRIEVAL = "retrieval"

MOST_ITEMS = 2_000_000
"""Of a table of SIDs that is drawn: it is read as a whole."""


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
    sections: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
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
    """The tokenizers behind the cells of the lowest seed, the focus first; for retrieval where there are any."""
    tables: dict[str, tuple[Stage, dict[str, None]]] = {}
    focused = set()
    for each in found:
        lowest = min((cell.seed for cell in each.done), default=0)
        for cell in each.done:
            for stage in stage_of(cell.overrides).walk() if cell.seed == lowest else ():
                if stage.name == "assign" and store.find(stage.name, stage.signature):
                    focused |= {stage.signature} if cell.row == each.grid.focus else set()
                    tables.setdefault(stage.signature, (stage, {}))[1][each.rows[cell.row].label] = None
    tables = {signature: one for signature, one in tables.items() if _fits(one[0], store)}
    tasks = {stage.task for stage, _ in tables.values()}  # type: ignore[attr-defined]
    wanted = RETRIEVAL if RETRIEVAL in tasks else None
    return [
        _codebook(stage, list(labels), store)
        for stage, labels in sorted(tables.values(), key=lambda table: table[0].signature not in focused)
        if wanted in (None, stage.task)  # type: ignore[attr-defined]
    ]


def _fits(stage: Stage, store: Store) -> bool:
    folder = store.find(stage.name, stage.signature)
    items = 0 if folder is None else int(read_layout(folder)["items"])
    if items > MOST_ITEMS:
        log.warning("no codebook pictures of %s: %d items are too many; see stage=inspect", stage.title, items)
    return items <= MOST_ITEMS


def _codebook(stage: Stage, labels: Sequence[str], store: Store) -> CodebookView:
    folder = store.find(stage.name, stage.signature)
    prepared = store.find("prepare", stage.upstream["dataset"].signature)
    assert folder is not None
    names = " · ".join(labels[:3]) + (" · …" if len(labels) > 3 else "")
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
    statistics: Mapping[str, Any] = next(
        (one.facts.get("statistics", {}) for one in manifests if one.stage == "prepare"), {}
    )
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


def provenance_of(manifests: Sequence[Manifest], command: str) -> Provenance:
    """Where, when and with what the artifacts were made."""
    made = [one.provenance for one in manifests]
    versions = (", ".join(f"{name} {version}" for name, version in one["versions"].items()) for one in made)
    created = sorted(one["created"] for one in made)
    facts = [
        ("command", command),
        ("page made", f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}, commit {commit()}, {hardware()}"),
        ("artifacts made", f"{created[0]} to {created[-1]}" if created else ""),
        ("commits", _distinct(one["commit"] for one in made)),
        ("hardware", _distinct(one["hardware"] for one in made)),
        ("Python", _distinct(one["python"] for one in made)),
        ("libraries", _distinct(versions)),
    ]
    return Provenance(facts=facts, digests=list(_digests(manifests)), costs=_costs(manifests))


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
