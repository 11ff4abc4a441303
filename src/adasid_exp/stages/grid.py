"""A grid file: what the paper ran for one table or figure, as rows, parts and seeds."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adasid_exp.stages.locations import EXPERIMENTS
from adasid_exp.types import UserError


@dataclass(frozen=True, kw_only=True)
class Part:
    """A block of columns: one stage and the figures read from it.

    Attributes:
        title: heading of the block.
        overrides: what every cell of the block shares, the stage first.
        metrics: column heading by ``metrics.json`` key.
        higher_is_better: by the same keys, where the best of a column may be marked; others are unmarked.
    """

    title: str
    overrides: tuple[str, ...]
    metrics: Mapping[str, str]
    higher_is_better: Mapping[str, bool]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        label: as printed.
        reference: a row that needs no SID and always runs.
        parts: this row's own overrides in each block it appears in.
        paper: the paper's figures by data set, then ``metrics.json`` key.
    """

    label: str
    reference: bool
    parts: Mapping[str, tuple[str, ...]]
    paper: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A parsed grid file: the attributes are its keys. ``profiles`` are per-item columns shown by popularity,
    ``compared`` the test metrics in which the best row is held against the next best, by part."""

    name: str
    title: str
    seeds: tuple[int, ...]
    parts: Mapping[str, Part]
    rows: Mapping[str, Row]
    notes: tuple[str, ...]
    profiles: Mapping[str, str]
    compared: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a grid: the overrides that compose it, and where its figures go."""

    row: str
    part: str
    seed: int
    overrides: tuple[str, ...]


def load_grid(name: str) -> Grid:
    """Reads ``experiments/<name>.yaml``.

    Raises:
        UserError: no such grid (with the nearest name), or a key is missing or unknown.
    """
    path = EXPERIMENTS / f"{name}.yaml"
    if not path.is_file():
        known = sorted(entry.stem for entry in EXPERIMENTS.glob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        raise UserError(f"no grid {name!r} in {EXPERIMENTS}; {hint}")
    try:
        return _grid(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    except (TypeError, KeyError, AttributeError, OmegaConfBaseException) as error:
        raise UserError(f"{path}: {type(error).__name__} {error}; compare it with table2.yaml") from error


def _grid(tree: Any) -> Grid:
    parts = {
        name: Part(
            title=node["title"],
            overrides=tuple(node["overrides"]),
            metrics=node["metrics"],
            higher_is_better=node["higher_is_better"],
        )
        for name, node in tree["parts"].items()
    }
    return Grid(
        name=tree["name"],
        title=tree["title"],
        seeds=tuple(tree["seeds"]),
        parts=parts,
        rows={name: _row(node) for name, node in tree["rows"].items()},
        notes=tuple(tree["notes"]),
        profiles=tree["profiles"],
        compared={part: tuple(names) for part, names in tree["compared"].items()},
    )


def _row(node: Mapping[str, Any]) -> Row:
    parts = {name: tuple(overrides) for name, overrides in node["parts"].items()}
    return Row(label=node["label"], reference=node["reference"], parts=parts, paper=node["paper"])


def choose_rows(grid: Grid, methods: Sequence[str] | None) -> dict[str, Row]:
    """The rows to run: all, or ``methods`` and the reference rows, in the file's order.

    Raises:
        UserError: a method the grid does not have.
    """
    if methods is None:
        return dict(grid.rows)
    for method in methods:
        if method not in grid.rows:
            near = difflib.get_close_matches(method, grid.rows, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(grid.rows)}"
            raise UserError(f"grid {grid.name} has no row {method!r}; {hint}")
    return {name: row for name, row in grid.rows.items() if row.reference or name in methods}


def cells_of(grid: Grid, rows: Mapping[str, Row], seeds: Sequence[int], shared: Sequence[str]) -> list[Cell]:
    """Every run of the chosen rows; ``shared`` are the user's own overrides, applied last."""
    return [
        Cell(
            row=name,
            part=part,
            seed=seed,
            overrides=(*grid.parts[part].overrides, *own, *shared, f"seed={seed}"),
        )
        for name, row in rows.items()
        for part, own in row.parts.items()
        for seed in seeds
    ]
