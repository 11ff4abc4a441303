"""A grid file: what the paper ran for one table or figure, as rows, parts and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adasid_exp.stages.hints import nearest
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
        on_data: overrides that hold on one data set only, by its name.
        paper: the paper's figures by data set, then ``metrics.json`` key.
        series: the curve of the figures that the row is a point of, and
        x: where on it.
    """

    label: str
    reference: bool
    parts: Mapping[str, tuple[str, ...]]
    on_data: Mapping[str, tuple[str, ...]]
    paper: Mapping[str, Mapping[str, float]]
    series: str | None
    x: float | None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A parsed grid file: the attributes are its keys.

    Attributes:
        name, title, notes: as printed.
        seeds: those that run unless others are asked for.
        parts, rows: the table's blocks and lines.
        profiles: heading of each per-item column that is shown by popularity.
        compared: the test metrics in which rows are held against each other, by part.
        focus: the row that all others are held against; None: the best against the next best.
        figures: what is drawn, nodes of `reporting.plots`, by file name.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    parts: Mapping[str, Part]
    rows: Mapping[str, Row]
    notes: Sequence[str]
    profiles: Mapping[str, str]
    compared: Mapping[str, tuple[str, ...]]
    focus: str | None
    figures: Mapping[str, Mapping[str, Any]]


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
        hint = nearest(name, known) or f"there are: {', '.join(known)}"
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
    unknown = set(tree) - OPTIONAL.keys() - {"name", "title", "seeds", "parts", "rows"}
    if unknown:
        raise KeyError(f"unknown key {sorted(unknown)[0]!r}")
    return Grid(
        name=tree["name"],
        title=tree["title"],
        seeds=tuple(tree["seeds"]),
        parts=parts,
        rows={name: _row(node, list(parts)) for name, node in tree["rows"].items()},
        **{name: tree.get(name, default) for name, default in OPTIONAL.items()},
    )


OPTIONAL: Mapping[str, Any] = {"notes": (), "profiles": {}, "compared": {}, "focus": None, "figures": {}}
"""Keys a grid file may leave out."""

ROW_KEYS = {"label", "reference", "parts", "everywhere", "on_data", "paper", "series", "x"}


def _row(node: Mapping[str, Any], parts: Sequence[str]) -> Row:
    """A row's node: ``everywhere`` are overrides of all blocks, ``parts`` those of the blocks it names."""
    unknown = set(node) - ROW_KEYS
    if unknown:
        raise KeyError(f"unknown key {sorted(unknown)[0]!r} in row {node['label']!r}")
    shared = tuple(node.get("everywhere", ()))
    chosen = node.get("parts", dict.fromkeys(parts, ()))
    return Row(
        label=node["label"],
        reference=node.get("reference", False),
        parts={name: (*shared, *(own or ())) for name, own in chosen.items()},
        on_data={data: tuple(own) for data, own in node.get("on_data", {}).items()},
        paper=node.get("paper", {}),
        series=node.get("series"),
        x=node.get("x"),
    )


def choose_parts(grid: Grid, parts: Sequence[str] | None) -> Grid:
    """The grid with only some of its blocks, the rows that stand in one of them and the panels that show them.

    Raises:
        UserError: a part the grid does not have.
    """
    if not parts:
        return grid
    _known(grid, "part", parts, grid.parts)
    rows = {
        name: replace(row, parts={part: own for part, own in row.parts.items() if part in parts})
        for name, row in grid.rows.items()
    }
    return replace(
        grid,
        parts={name: part for name, part in grid.parts.items() if name in parts},
        rows={name: row for name, row in rows.items() if row.parts},
        compared={part: metrics for part, metrics in grid.compared.items() if part in parts},
        figures={name: node for name, own in grid.figures.items() if (node := _figure_of(own, parts)) is not None},
    )


def choose_rows(grid: Grid, methods: Sequence[str] | None) -> dict[str, Row]:
    """The rows to run: all, or ``methods`` and the reference rows, in the file's order.

    Raises:
        UserError: a method the grid does not have.
    """
    if methods is None:
        return dict(grid.rows)
    _known(grid, "row", methods, grid.rows)
    return {name: row for name, row in grid.rows.items() if row.reference or name in methods}


def _known(grid: Grid, what: str, asked: Sequence[str], there: Mapping[str, Any]) -> None:
    for name in asked:
        if name not in there:
            hint = nearest(name, there) or f"it has: {', '.join(there)}"
            raise UserError(f"grid {grid.name} has no {what} {name!r}; {hint}")


def _figure_of(node: Mapping[str, Any], parts: Sequence[str]) -> Mapping[str, Any] | None:
    """A figure's node with the panels of these parts; None if nothing is left to draw."""
    if node.get("part", parts[0]) not in parts:
        return None
    if isinstance(node.get("panels", {}), Mapping):
        return node
    panels = [panel for panel in node["panels"] if panel["part"] in parts]
    return {**node, "panels": panels} if panels else None


def rows_on(rows: Mapping[str, Row], data: str) -> dict[str, Row]:
    """The rows with what they override on the data set ``data``."""
    return {
        name: replace(row, parts={part: (*own, *row.on_data.get(data, ())) for part, own in row.parts.items()})
        for name, row in rows.items()
    }


def cells_of(grid: Grid, rows: Mapping[str, Row], seeds: Sequence[int], shared: Sequence[str]) -> list[Cell]:
    """Every run of the chosen rows; ``shared`` are the user's own overrides: what makes a row comes after them."""
    return [
        Cell(
            row=name,
            part=part,
            seed=seed,
            overrides=(*shared, *grid.parts[part].overrides, *own, f"seed={seed}"),
        )
        for name, row in rows.items()
        for part, own in row.parts.items()
        for seed in seeds
    ]


def kept_by_rows(grid: Grid, rows: Mapping[str, Row], shared: Sequence[str]) -> list[str]:
    """A line for each override of the user's whose key some rows set themselves: there theirs stands."""
    lines = []
    for text in shared:
        own = [
            name
            for name, row in rows.items()
            if any(
                _sets(o, _key(text)) for part, more in row.parts.items() for o in (*grid.parts[part].overrides, *more)
            )
        ]
        if len(own) == len(rows):
            lines.append(f"{text} holds for no row: every one sets {_key(text)} itself")
        elif own:
            lines.append(f"{text} holds for the other rows: {', '.join(own)} set {_key(text)} themselves")
    return lines


def _sets(override: str, key: str) -> bool:
    """Whether the override gives ``key`` a value: itself, or within a mapping that holds it."""
    return _key(override) == key or (key.startswith(f"{_key(override)}.") and "={" in override)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
