"""The figures of a grid as the page draws them: those its file asks for, and those every grid has."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import polars as pl
import torch

from adasid_exp.artifacts.results import COUNTS, LENGTHS
from adasid_exp.functional.alignment import alignment_weight
from adasid_exp.reporting.page import vega
from adasid_exp.reporting.page.content import Figure, Plot, Series, Test
from adasid_exp.reporting.plots import Curves, Deciles, Dots, Population, Spot, Strengths, spread_of
from adasid_exp.reporting.render import duration
from adasid_exp.reporting.statistics import Spread
from adasid_exp.reporting.table import Column, Table

METHOD, FOCUS, REFERENCE, PAPER = "method", "focus", "reference", "paper"

AHEAD, BEHIND, OPEN = "focus ahead", "focus behind", "undecided"

TENTHS = range(1, 11)

WHISKERS = "Whiskers: one standard deviation over seeds, where there are several."

DOTTED = "Thick whiskers: one standard deviation over seeds; thin ones: 95 % interval over the test users, first seed."

LOGARITHMIC = "Both axes are logarithmic: a straight line is a power law."

MOST_POINTS = 160
"""Of one curve."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What figures of a grid are drawn from.

    Attributes:
        name: of the grid; figures are named after it.
        runs: tidy, see `reporting.table.runs_frame`.
        spots: its rows.
        table: its table.
        focus: the row others are held against, or None.
        references: rows that are no methods.
        over_users: half of a figure's 95 % interval over users, by row, part and key; see `reporting.plots.over_users`.
    """

    name: str
    runs: pl.DataFrame
    spots: Mapping[str, Spot]
    table: Table
    focus: str | None
    references: frozenset[str]
    over_users: Mapping[tuple[str, str, str], float]

    def kind(self, row: str) -> str:
        """The legend's entry a row belongs to in plots that list rows."""
        if row == self.focus:
            return FOCUS
        return REFERENCE if row in self.references else METHOD


@singledispatch
def drawn(node: Any, name: str, source: Source) -> Figure | None:
    """The figure of a node of the grid file; None without data.

    A kind of its own, which the page does not know, is embedded as it draws itself.
    """
    buffer = io.BytesIO()
    node.draw(source.runs, source.spots).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    picture = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    alt = f"{node.title}; drawn by {type(node).__name__}"
    plot = Plot(title="", alt=alt, spec={"image": picture}, data={})
    return Figure(name=f"{source.name}-{name}", title=node.title, text="", legend=(), plots=(plot,))


@drawn.register
def _(node: Curves, name: str, source: Source) -> Figure | None:
    points = {panel["title"]: list(_on_curves(panel, source)) for panel in node.panels}
    known = {series for each in points.values() for series, _, _ in each}
    order = dict.fromkeys(str(spot.series) for spot in source.spots.values())
    legend = vega.legend_of([series for series in order if series in known])
    across = _number(node.x_label)
    plots = [
        _plot(
            title,
            f"{title} over {node.x_label}",
            vega.lines(across, _number(title), legend, whiskers=True, points=True),
            _spread_columns(found),
        )
        for title, found in points.items()
        if found
    ]
    return _figure(source, name, node.title, WHISKERS, legend, plots)


def _on_curves(panel: Mapping[str, str], source: Source) -> Iterator[tuple[str, float, Spread]]:
    """Series, place and figure of each row that is a point of a curve and has run."""
    for row, spot in source.spots.items():
        found = spread_of(source.runs, row, panel["part"], panel["key"])
        if spot.x is not None and found is not None:
            yield str(spot.series), float(spot.x), found


@drawn.register
def _(node: Deciles, name: str, source: Source) -> Figure | None:
    points = {metric: list(_tenths(node.part, metric, source)) for metric in node.panels}
    legend = vega.legend_of(list(dict.fromkeys(label for each in points.values() for label, _, _ in each)))
    tenth = vega.Axis(title="tenth of the items, least to most popular", type="count")
    plots = [
        _plot(
            heading,
            f"{heading} by popularity of the items",
            vega.lines(tenth, _number(heading), legend, whiskers=True, points=True),
            _spread_columns(points[metric]),
        )
        for metric, heading in node.panels.items()
        if points[metric]
    ]
    return _figure(source, name, node.title, WHISKERS, legend, plots)


def _tenths(part: str, metric: str, source: Source) -> Iterator[tuple[str, int, Spread]]:
    """A per-item column of each row that has it in every tenth of the catalogue."""
    for row, spot in source.spots.items():
        found = [spread_of(source.runs, row, part, f"decile{tenth}/{metric}") for tenth in TENTHS]
        known = [spread for spread in found if spread is not None]
        if len(known) == len(found):
            yield from ((spot.label, tenth, spread) for tenth, spread in zip(TENTHS, known, strict=True))


@drawn.register
def _(node: Dots, name: str, source: Source) -> Figure | None:
    columns = [
        Column(part=panel["part"], part_title="", key=panel["key"], title=panel["title"], higher_is_better=None)
        for panel in node.panels
    ]
    return dot_plots(source, name, node.title, columns)


@drawn.register
def _(node: Strengths, name: str, source: Source) -> Figure | None:
    richness = torch.linspace(0.0, 1.0, 81)
    data: dict[str, list[Any]] = {"series": [], "x": [], "y": []}
    for pair, (alpha, beta) in node.pairs.items():
        data["series"] += [pair] * len(richness)
        data["x"] += _short(richness.tolist())
        data["y"] += _short(alignment_weight(richness, alpha=alpha, beta=beta).tolist())
    legend = vega.legend_of(list(node.pairs))
    x_title, y_title = "normalised richness of the item's behavior", "alignment weight w"
    spec = vega.lines(_number(x_title), _number(y_title), legend, whiskers=False, points=False)
    plot = _plot("", f"{y_title} over {x_title}: a steep rise from 0 to 1 for each pair", spec, data)
    return _figure(source, name, node.title, "From the formula; nothing of it is measured.", legend, [plot])


@drawn.register
def _(node: Population, name: str, source: Source) -> Figure | None:
    legend = vega.legend_of([spot.label for spot in source.spots.values()])
    curves: list[list[tuple[str, np.ndarray, np.ndarray]]] = [[], []]
    for spot in source.spots.values():
        if node.part in spot.folders:
            folder = spot.folders[node.part]
            counts = np.sort(np.load(folder / COUNTS))[::-1]
            counts = counts[counts > 0]
            curves[0].append((spot.label, np.arange(1, len(counts) + 1), counts))
            curves[1].append((spot.label, *np.unique(np.load(folder / LENGTHS), return_counts=True)))
    plots = []
    for found, x_title, y_title in zip(curves, node.x_labels, node.y_labels, strict=True):
        if found:
            across, up = (vega.Axis(title=title, type="log") for title in (x_title, y_title))
            spec = vega.lines(across, up, legend, whiskers=False, points=False)
            alt = f"{y_title} over {x_title}, both on logarithmic axes"
            plots.append(_plot("", alt, spec, _thinned(found)))
    return _figure(source, name, node.title, LOGARITHMIC, legend, plots)


def dot_plots(source: Source, name: str, title: str, columns: Sequence[Column]) -> Figure | None:
    """A plot a column: mean and standard deviation of each row, the paper's figure where it has one."""
    plots = []
    kinds: set[str] = set()
    for column in columns:
        data = _dot_columns(source, column)
        if any(kind != PAPER for kind in data["series"]):
            kinds.update(data["series"])
            rows = list(dict.fromkeys(data["row"]))
            spec = vega.dots(rows, KINDS)
            plots.append(_plot(column.title, f"{column.title} of {len(rows)} rows", spec, data))
    legend = tuple(series for series in KINDS if series.name in kinds)
    return _figure(source, name, title, DOTTED, legend, plots)


KINDS = (
    Series(name=FOCUS, color=1),
    Series(name=METHOD, color=0),
    Series(name=REFERENCE, color=7),
    Series(name=PAPER, color=2, muted=True),
)


def _dot_columns(source: Source, column: Column) -> dict[str, list[Any]]:
    data: dict[str, list[Any]] = {key: [] for key in ("row", "series", "mean", "low", "high", "least", "most", "note")}
    papers = {line.label: line.figures.get((column.part, column.key)) for line in source.table.lines}
    for row, spot in source.spots.items():
        found = spread_of(source.runs, row, column.part, column.key)
        if found is not None:
            half = source.over_users.get((row, column.part, column.key), 0.0)
            _add_dot(data, (spot.label, source.kind(row), _over(found, half)), found.mean, found.std or 0.0, half)
        figure = papers.get(spot.label)
        if found is not None and figure is not None and figure.paper is not None:
            _add_dot(data, (spot.label, PAPER, "the paper's figure"), figure.paper, 0.0, 0.0)
    return data


def _add_dot(data: dict[str, list[Any]], names: tuple[str, str, str], mean: float, std: float, half: float) -> None:
    """``names``: the row, its kind, what to say of it; ``std`` over seeds and ``half`` an interval over users."""
    row, kind, note = names
    numbers = _short([mean, mean - std, mean + std, mean - half, mean + half])
    for key, value in zip(data, (row, kind, *numbers, note), strict=True):
        data[key].append(value)


def _over(found: Spread, half: float) -> str:
    seeds = f"{found.runs} seeds, std {found.std:.2g}" if found.std is not None else "one seed"
    return f"{seeds}; ± {half:.2g} over users" if half else seeds


def forest_plots(source: Source, tests: Sequence[Test]) -> Figure | None:
    """A plot a metric: how far the focus is from each other row, with its interval."""
    if not tests:
        return None
    legend = tuple(Series(name=name, color=color) for name, color in ((AHEAD, 2), (BEHIND, 3), (OPEN, 7)))
    plots = []
    for metric in dict.fromkeys(test.metric for test in tests):
        mine = [test for test in tests if test.metric == metric]
        data: dict[str, list[Any]] = {
            "row": [test.against for test in mine],
            "series": [(AHEAD if test.low > 0 else BEHIND) if test.decided else OPEN for test in mine],
            "difference": _short([test.difference for test in mine]),
            "low": _short([test.low for test in mine]),
            "high": _short([test.high for test in mine]),
            "p": _short([test.p_value for test in mine]),
        }
        title = f"{metric}, {mine[0].focus} minus"
        spec = vega.forest(data["row"], legend)
        plots.append(_plot(title, f"Difference in {metric} of {mine[0].focus} to {len(mine)} rows", spec, data))
    title = f"How far {tests[0].focus} is from the others"
    text = "Whiskers: 95 % interval of a paired bootstrap over users; right of the line the first is ahead."
    return _figure(source, "forest", title, text, legend, plots)


def strata_plots(source: Source) -> Figure | None:
    """Head against tail, for the columns that a grid has of both."""
    keys = {(column.part, column.key): column for column in source.table.columns}
    pairs = [
        (column, keys[part, "head/" + key.removeprefix("tail/")])
        for (part, key), column in keys.items()
        if key.startswith("tail/") and column.higher_is_better is not None and (part, "head/" + key[5:]) in keys
    ]
    legend = vega.legend_of([spot.label for spot in source.spots.values()])
    plots = []
    for tail, head in pairs:
        points = [
            (spot.label, name, found)
            for row, spot in source.spots.items()
            for name, column in (("tail", tail), ("head", head))
            if (found := spread_of(source.runs, row, column.part, column.key))
        ]
        if points:
            title = tail.title.removeprefix("tail ")
            stratum = vega.Axis(title="stratum of the items", type="nominal")
            spec = vega.lines(stratum, _number(title), legend, whiskers=True, points=True)
            plots.append(
                _plot(title, f"{title} on the tail and on the head of the catalogue", spec, _spread_columns(points))
            )
    text = "A line a row; its slope is what popularity is worth to it."
    return _figure(source, "strata", "From tail to head", text, legend, plots)


def cost_plot(source: Source, column: Column) -> Figure | None:
    """What a row costs against what it reaches."""
    measured = all(line.cost.cpu_seconds is not None for line in source.table.lines if line.cost is not None)
    data: dict[str, list[Any]] = {key: [] for key in ("series", "row", "x", "y", "note")}
    for line in source.table.lines:
        figure = line.figures[column.part, column.key]
        if figure is not None and figure.mean is not None and line.cost is not None:
            seconds = line.cost.cpu_seconds if measured else line.cost.seconds
            note = f"{duration(line.cost.seconds)} of wall time, {line.cost.peak_memory_mb / 1024:.1f} GiB at the peak"
            values = (source.kind(line.name), line.label, *_short([(seconds or 0) / 60, figure.mean]), note)
            for key, value in zip(data, values, strict=True):
                data[key].append(value)
    if len(data["row"]) < 3:
        return None
    x_title = f"{'CPU' if measured else 'wall'} minutes of every artifact the row rests on"
    legend = tuple(series for series in KINDS if series.name in data["series"])
    spec = vega.scatter(x_title, column.title, legend)
    plot = _plot("", f"{column.title} over {x_title}, {len(data['row'])} rows", spec, data)
    return _figure(source, "cost", "Cost against quality", "Up and to the left is better.", legend, [plot])


def _number(title: str) -> vega.Axis:
    return vega.Axis(title=title, type="quantitative")


def _figure(
    source: Source, name: str, title: str, text: str, legend: Sequence[Series], plots: Sequence[Plot]
) -> Figure | None:
    if not plots:
        return None
    return Figure(name=f"{source.name}-{name}", title=title, text=text, legend=tuple(legend), plots=tuple(plots))


def _plot(title: str, alt: str, spec: Mapping[str, Any], data: Mapping[str, Sequence[Any]]) -> Plot:
    return Plot(title=title, alt=alt, spec=spec, data=data)


def _spread_columns(points: Sequence[tuple[str, Any, Spread]]) -> dict[str, list[Any]]:
    """Columns of `vega.lines`."""
    return {
        "series": [name for name, _, _ in points],
        "x": [x for _, x, _ in points],
        "y": _short([found.mean for _, _, found in points]),
        "low": _short([found.mean - (found.std or 0.0) for _, _, found in points]),
        "high": _short([found.mean + (found.std or 0.0) for _, _, found in points]),
    }


def _thinned(curves: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> dict[str, list[Any]]:
    """Columns of `vega.lines`; of long curves points that are even on a logarithmic axis."""
    data: dict[str, list[Any]] = {"series": [], "x": [], "y": []}
    for name, x, y in curves:
        chosen = np.unique(np.geomspace(1, len(x), MOST_POINTS).round().astype(int)) - 1
        data["series"] += [name] * len(chosen)
        data["x"] += x[chosen].tolist()
        data["y"] += y[chosen].tolist()
    return data


def _short(values: Sequence[float]) -> list[float]:
    """Five digits are more than a picture shows."""
    return [float(f"{value:.5g}") for value in values]
