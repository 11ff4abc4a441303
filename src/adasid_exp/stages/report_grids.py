"""What the report tells of one grid: its table, significance, figures and finished runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from adasid_exp.artifacts.files import appear
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.store import Store, signature_of
from adasid_exp.reporting.page.content import GridView, Mark, RunView, Test
from adasid_exp.reporting.page.plots import Source, cost_plot, dot_plots, drawn, forest_plots, strata_plots
from adasid_exp.reporting.plots import RESAMPLED, Dots, over_users
from adasid_exp.reporting.statistics import Difference
from adasid_exp.stages.base import Stage
from adasid_exp.stages.compare import HOW, Comparison, comparisons
from adasid_exp.stages.grid import Cell, Grid, Row
from adasid_exp.stages.reproduce import report, spots_of
from adasid_exp.stages.schedule import stage_of

log = logging.getLogger(__name__)

COMPARISONS = "comparisons"
"""Folder of the store where they are kept."""

RETRIEVAL = "retrieval"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A grid on the chosen data, and which of its cells are there."""

    grid: Grid
    rows: Mapping[str, Row]
    cells: Sequence[Cell]
    done: Mapping[Cell, Path]


def grid_view(found: Found, store: Store, data: str) -> GridView:
    """Table, significance and figures of a grid."""
    grid, rows = found.grid, found.rows
    kept = remembered(found, store)
    compared = kept.comparisons
    table, runs = report(grid, rows, found.cells, store, data, [])
    tests = [test_of(one, rows) for one in compared]
    source = Source(
        name=grid.name,
        runs=runs,
        spots=spots_of(rows, found.cells, store),
        table=table,
        focus=grid.focus,
        references=frozenset(name for name, row in rows.items() if row.reference),
        over_users=kept.over_users,
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


@dataclass(frozen=True, kw_only=True)
class Uncertain:
    """What bootstraps say of a grid: comparisons, and half an interval over users by row, part and key."""

    comparisons: list[Comparison]
    over_users: dict[tuple[str, str, str], float]


def remembered(found: Found, store: Store) -> Uncertain:
    """The grid's bootstraps: they take seconds each, so the store keeps them as long as the runs are the same."""
    asked = {
        "focus": found.grid.focus,
        "compared": {part: list(names) for part, names in found.grid.compared.items()},
        "rows": {name: row.reference for name, row in found.rows.items()},
        "runs": [[cell.row, cell.part, cell.seed, folder.name] for cell, folder in found.done.items()],
        "how": [asdict(HOW), asdict(RESAMPLED)],
    }
    path = store.root / COMPARISONS / f"{found.grid.name}-{signature_of(asked)}.json"
    if path.is_file():
        kept = json.loads(path.read_text())
        over_users = {(row, part, key): half for row, part, key, half in kept["over_users"]}
        return Uncertain(comparisons=[_comparison(tree) for tree in kept["comparisons"]], over_users=over_users)
    compared = list(comparisons(found.grid, found.rows, found.cells, store))
    uncertain = Uncertain(comparisons=compared, over_users=dict(_intervals(found, store)))
    _keep(uncertain, path)
    return uncertain


def _keep(uncertain: Uncertain, path: Path) -> None:
    halves = [[*key, half] for key, half in uncertain.over_users.items()]
    tree = {"comparisons": [asdict(one) for one in uncertain.comparisons], "over_users": halves}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        appear(path, lambda draft: draft.write_text(json.dumps(tree)))
    except OSError as error:
        log.info("comparisons are not kept for next time: %s", error)


def _intervals(found: Found, store: Store) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Of every figure that a column with a direction shows."""
    for row, spot in spots_of(found.rows, found.cells, store).items():
        for name, part in found.grid.parts.items():
            for key in part.metrics.keys() & part.higher_is_better.keys():
                half = over_users(spot.folders.get(name), key)
                if half is not None:
                    yield (row, name, key), half


def _comparison(tree: Mapping[str, Any]) -> Comparison:
    return Comparison(**{**tree, "seeds": tuple(tree["seeds"]), "difference": Difference(**tree["difference"])})


def figures_of(grid: Grid, source: Source, tests: Sequence[Test]) -> Iterator[Any]:
    """What the grid's file asks for, then what every grid has that its columns allow."""
    nodes = {name: instantiate(node) for name, node in grid.figures.items()}
    for name, node in nodes.items():
        yield drawn(node, name, source)
    better = [column for column in source.table.columns if column.higher_is_better is not None]
    shown = {
        (panel["part"], panel["key"]) for node in nodes.values() if isinstance(node, Dots) for panel in node.panels
    }
    rest = [column for column in better if (column.part, column.key) not in shown]
    if len(source.spots) > 1:
        title = "Every other metric by row" if shown else "Every metric by row"
        yield dot_plots(source, "metrics", title, rest)
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
