"""The figures of grids: each class is one kind of picture, its fields are a node of the grid file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from adasid_exp.artifacts.results import COUNTS, LENGTHS, ROWS, Results
from adasid_exp.functional.alignment import alignment_weight
from adasid_exp.functional.ranking import expected_ndcg, expected_recall
from adasid_exp.reporting.figures import GREY, MARKERS, PALETTE, WIDTH, canvas
from adasid_exp.reporting.statistics import Bootstrap, Spread, mean_std, resampled_auc
from adasid_exp.reporting.table import values_of

NORMAL = 1.96
"""Standard errors to either side of a 95 % interval."""
RESAMPLED = Bootstrap(resamples=500, level=0.95, seed=0)
PER_USER = {"recall": expected_recall, "ndcg": expected_ndcg}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes: a figure of one block of the grid.

    Attributes:
        part: the block.
        key: ``split/metric``.
        title: what the axis measures, with its unit.
    """

    part: str
    key: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A row of the grid as a picture sees it.

    Attributes:
        label: how it is named.
        series, x: the curve and the place on it that the row stands for.
        folders: the artifact of the row's first seed in each block, where there is one.
    """

    label: str
    series: str | None
    x: float | None
    folders: Mapping[str, Path]


def spread_of(runs: pl.DataFrame, row: str, part: str, key: str) -> Spread | None:
    """A row's figure over its seeds; None where nothing has run."""
    values = values_of(runs, row, part, key)
    return mean_std(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A figure over a number that rows vary: one panel a metric, one curve a series, bars of one std over seeds."""

    title: str
    x_label: str
    panels: Sequence[Mapping[str, str]]
    columns: int

    def draw(self, runs: pl.DataFrame, rows: Mapping[str, Spot]) -> Any:
        """The picture of `reporting.table.runs_frame` and the grid's rows."""
        panels = [Panel(**panel) for panel in self.panels]
        figure, axes = canvas(len(panels), self.columns, self.title)
        series = list(dict.fromkeys(spot.series for spot in rows.values() if spot.x is not None))
        for panel, axis in zip(panels, axes, strict=False):
            for number, name in enumerate(series):
                _curve(axis, runs, panel, {row: s for row, s in rows.items() if s.series == name}, number, name)
            axis.set(xlabel=self.x_label, ylabel=panel.title)
        _legend(figure, axes)
        return figure


def _curve(
    axis: Any, runs: pl.DataFrame, panel: Panel, rows: Mapping[str, Spot], number: int, name: str | None
) -> None:
    found = [(spot.x, spread_of(runs, row, panel.part, panel.key)) for row, spot in rows.items()]
    points = sorted((x, s.mean, s.std or 0.0) for x, s in found if x is not None and s is not None)
    if not points:
        return
    x, mean, std = (np.asarray(column) for column in zip(*points, strict=True))
    color, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    axis.errorbar(x, mean, yerr=std, color=color, marker=marker, capsize=3, label=name)


@dataclass(frozen=True, kw_only=True)
class Dots:
    """Rows one under the other, one panel a metric: a dot for the mean, a bar of one std over seeds.

    Where the first seed's artifact keeps what each user got, a thin bar is the 95 % interval over users.
    """

    title: str
    panels: Sequence[Mapping[str, str]]
    columns: int

    def draw(self, runs: pl.DataFrame, rows: Mapping[str, Spot]) -> Any:
        """As `Curves.draw`."""
        panels = [Panel(**panel) for panel in self.panels]
        figure, axes = canvas(len(panels), self.columns, self.title, height=0.34 * len(rows) + 1.0)
        labels = [spot.label for spot in rows.values()]
        legend: dict[str, None] = {}
        firsts: dict[str, Any] = {}
        for number, (panel, axis) in enumerate(zip(panels, axes, strict=False)):
            if firsts.setdefault(panel.key, axis) is not axis:  # one metric in two parts reads off one scale
                axis.sharex(firsts[panel.key])
            for place, row in enumerate(rows):
                spread = spread_of(runs, row, panel.part, panel.key)
                if spread is not None:
                    half = over_users(rows[row].folders.get(panel.part), panel.key)
                    if half is not None:
                        axis.errorbar(spread.mean, place, xerr=half, color=GREY, elinewidth=1, zorder=1)
                        legend["thin bars: 95 % interval over the test users, first seed"] = None
                    if spread.std is not None:
                        legend["bars with caps: standard deviation over seeds"] = None
                    axis.errorbar(spread.mean, place, xerr=spread.std or 0.0, color=PALETTE[0], marker="o", capsize=3)
            axis.set(xlabel=panel.title, yticks=range(len(labels)), ylim=(len(labels) - 0.5, -0.5))
            axis.set_yticklabels(labels if number % self.columns == 0 else [])
            axis.tick_params(axis="y", length=0)
            axis.locator_params(axis="x", nbins=6)
        if legend:
            figure.supxlabel("; ".join(legend), fontsize=8, color=GREY)
        return figure


def over_users(folder: Path | None, key: str) -> float | None:
    """Half of the 95 % interval of a run's test figure, users being what is sampled; None where no rows tell.

    Recall and NDCG are means over users; an AUC is resampled.
    """
    if folder is None or not key.startswith("test/") or not (folder / ROWS).is_file():
        return None
    name, _, cutoff = key.removeprefix("test/").partition("@")
    rows = Results.load(folder).rows
    if name in PER_USER:
        above, tied = (torch.from_numpy(rows[column].copy()) for column in ("above", "tied"))
        each = PER_USER[name](above, tied, torch.tensor([int(cutoff)])).double()
        return float(NORMAL * each.std() / len(each) ** 0.5)
    if name == "auc":
        return float(NORMAL * np.nanstd(resampled_auc(rows["user"], rows["label"], [rows["score"]], RESAMPLED).draws))
    return None


@dataclass(frozen=True, kw_only=True)
class Deciles:
    """Per-item columns by tenth of popularity: one panel a column, one curve a row that records it."""

    title: str
    part: str
    panels: Mapping[str, str]
    columns: int

    def draw(self, runs: pl.DataFrame, rows: Mapping[str, Spot]) -> Any:
        """As `Curves.draw`."""
        figure, axes = canvas(len(self.panels), self.columns, self.title)
        for (metric, heading), axis in zip(self.panels.items(), axes, strict=False):
            for number, (row, spot) in enumerate(rows.items()):
                tenths = [spread_of(runs, row, self.part, f"decile{tenth}/{metric}") for tenth in range(1, 11)]
                found = [spread for spread in tenths if spread is not None]
                if len(found) == len(tenths):
                    axis.errorbar(
                        range(1, 11),
                        [spread.mean for spread in found],
                        yerr=[spread.std or 0.0 for spread in found],
                        color=PALETTE[number % len(PALETTE)],
                        marker=MARKERS[number % len(MARKERS)],
                        capsize=3,
                        label=spot.label,
                    )
            axis.set(xlabel="tenth of the items, least to most popular", ylabel=heading, xticks=range(1, 11))
        _legend(figure, axes)
        return figure


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """The alignment weight over normalised richness (Eq. 14) for some (alpha, beta): the paper's figure 4.

    Attributes:
        pairs: name of each curve to ``[alpha, beta]``.
    """

    title: str
    pairs: Mapping[str, Sequence[float]]

    def draw(self, runs: pl.DataFrame, rows: Mapping[str, Spot]) -> Any:
        """As `Curves.draw`; nothing of it is measured."""
        figure, axes = canvas(1, 1, self.title)
        richness = torch.linspace(0.0, 1.0, 401)
        for number, (name, (alpha, beta)) in enumerate(self.pairs.items()):
            weight = alignment_weight(richness, alpha=alpha, beta=beta)
            color, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            axes[0].plot(richness, weight, color=color, marker=marker, markevery=80, label=name)
        axes[0].set(xlabel="normalised richness of the item's behavior", ylabel="alignment weight w")
        _legend(figure, axes)
        return figure


@dataclass(frozen=True, kw_only=True)
class Population:
    """Interactions of each item, most popular first, and how many users have how long a history (table 1).

    Both axes are logarithmic: a straight line is a power law.
    """

    title: str
    part: str
    x_labels: Sequence[str]
    y_labels: Sequence[str]

    def draw(self, runs: pl.DataFrame, rows: Mapping[str, Spot]) -> Any:
        """As `Curves.draw`, from the arrays of the `describe` artifacts."""
        figure, axes = canvas(2, 2, self.title)
        for number, spot in enumerate(rows.values()):
            if self.part not in spot.folders:
                continue
            folder, color = spot.folders[self.part], PALETTE[number % len(PALETTE)]
            counts = np.sort(np.load(folder / COUNTS))[::-1]
            length, users = np.unique(np.load(folder / LENGTHS), return_counts=True)
            axes[0].plot(np.arange(1, len(counts) + 1), counts, color=color, label=spot.label)
            axes[1].plot(length, users, MARKERS[number % len(MARKERS)], color=color, markersize=3, label=spot.label)
        for axis, x_label, y_label in zip(axes, self.x_labels, self.y_labels, strict=True):
            axis.set(xscale="log", yscale="log", xlabel=x_label, ylabel=y_label)
        _legend(figure, axes)
        return figure


def _legend(figure: Any, axes: Sequence[Any]) -> None:
    """One legend for all panels, below them, where there is something to tell apart."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) > 1:
        across = 2 * round(figure.get_figwidth() / WIDTH)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(across, len(handles)))
