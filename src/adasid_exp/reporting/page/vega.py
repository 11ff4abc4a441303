"""The few kinds of plots the page draws, as Vega-Lite: data come as columns, colors from the page's style sheet.

Every spec reads the data set ``source`` and the parameter ``muted``, the series that the legend has switched off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adasid_exp.reporting.page.content import Series
from adasid_exp.types import UserError

COLORS = 10
"""Colors of the page's palette; see ``--s0`` .. in its style sheet."""

SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")

DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
"""Tell series of the same color apart."""

ROW = 19
"""Pixels of a row in plots that list rows."""

HEIGHT = 210
"""Pixels of the other plots."""

DIGITS = ".4~g"


def altair() -> Any:
    """The module.

    Raises:
        UserError: it is not installed.
    """
    try:
        import altair
    except ImportError as error:
        raise UserError(
            "the report's figures need altair; install it with: pip install 'adasid-exp[report]'"
        ) from error
    return altair


def legend_of(names: Sequence[str]) -> tuple[Series, ...]:
    """A color each, in order."""
    return tuple(Series(name=name, color=number) for number, name in enumerate(names))


def dots(rows: Sequence[str], legend: Sequence[Series]) -> dict[str, Any]:
    """Rows one under the other: mean, two whiskers. Columns: row, series, mean, low, high, least, most, note."""
    alt = altair()
    base = alt.Chart().encode(y=alt.Y("row:N", sort=list(rows), title=None, axis=_names_axis()))
    thin = base.mark_rule(strokeWidth=1, color="var(--muted)").encode(x="least:Q", x2="most:Q")
    whisker = base.mark_rule(strokeWidth=2.4).encode(x="low:Q", x2="high:Q", color=_color(legend))
    dot = base.mark_point(filled=True, opacity=1, size=62).encode(
        x=alt.X("mean:Q", title=None, scale=alt.Scale(zero=False, nice=True, padding=8)),
        color=_color(legend),
        shape=_shape(legend),
        tooltip=[
            alt.Tooltip("row:N", title="row"),
            alt.Tooltip("series:N", title=" "),
            alt.Tooltip("mean:Q", title="mean", format=DIGITS),
            alt.Tooltip("note:N", title="over"),
        ],
    )
    return _finished(alt.layer(thin, whisker, dot), ROW * len(rows))


def forest(rows: Sequence[str], legend: Sequence[Series]) -> dict[str, Any]:
    """Differences with intervals around a line at zero. Columns: row, series, difference, low, high, p."""
    alt = altair()
    base = alt.Chart().encode(y=alt.Y("row:N", sort=list(rows), title=None, axis=_names_axis()))
    zero = alt.Chart().mark_rule(color="var(--muted)", strokeDash=[3, 3]).encode(x=alt.datum(0))
    whisker = base.mark_rule(strokeWidth=1.8).encode(x="low:Q", x2="high:Q", color=_color(legend))
    dot = base.mark_point(filled=True, opacity=1, size=62).encode(
        x=alt.X("difference:Q", title=None),
        color=_color(legend),
        shape=_shape(legend),
        tooltip=[
            alt.Tooltip("row:N", title="against"),
            alt.Tooltip("difference:Q", format="+.4f"),
            alt.Tooltip("low:Q", format="+.4f"),
            alt.Tooltip("high:Q", format="+.4f"),
            alt.Tooltip("p:Q", format=".4f"),
        ],
    )
    return _finished(alt.layer(zero, whisker, dot), ROW * len(rows))


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What an axis shows.

    Attributes:
        title: along it.
        type: ``quantitative`` (from where the data begin), ``log``, ``count`` (whole numbers) or ``nominal``.
    """

    title: str
    type: str

    def channel(self, channel: Any, field: str) -> Any:
        """The axis as altair's ``X`` or ``Y`` of a column."""
        alt = altair()
        if self.type == "nominal":
            return channel(f"{field}:N", title=self.title, sort=None, axis=alt.Axis(labelAngle=0))
        scale = alt.Scale(type="log") if self.type == "log" else alt.Scale(zero=False)
        ticks = alt.Axis(format="d", tickMinStep=1) if self.type == "count" else alt.Undefined
        return channel(f"{field}:Q", title=self.title, scale=scale, axis=ticks)


def lines(x: Axis, y: Axis, legend: Sequence[Series], *, whiskers: bool, points: bool) -> dict[str, Any]:
    """Curves. Columns: series, x, y; with whiskers low and high too."""
    alt = altair()
    tooltip = [alt.Tooltip("series:N", title=" "), _tip("x", x), _tip("y", y)]
    base = alt.Chart().encode(x=x.channel(alt.X, "x"), color=_color(legend))
    height = y.channel(alt.Y, "y")
    layers = [base.mark_line(strokeWidth=1.8).encode(y=height, strokeDash=_dash(legend))]
    if whiskers:
        layers.append(base.mark_rule(strokeWidth=1.4).encode(y=y.channel(alt.Y, "low"), y2="high:Q"))
    dot = base.mark_point(filled=True, opacity=1, size=46 if points else 14)
    layers.append(dot.encode(y=height, shape=_shape(legend), tooltip=tooltip))
    return _finished(alt.layer(*layers), HEIGHT)


def _tip(field: str, axis: Axis) -> Any:
    alt = altair()
    if axis.type == "nominal":
        return alt.Tooltip(f"{field}:N", title=axis.title)
    return alt.Tooltip(f"{field}:Q", title=axis.title, format=DIGITS)


def scatter(x_title: str, y_title: str, legend: Sequence[Series]) -> dict[str, Any]:
    """Named points. Columns: series, row, x, y, note."""
    alt = altair()
    base = alt.Chart().encode(
        x=alt.X("x:Q", title=x_title, scale=alt.Scale(zero=True)),
        y=alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False, nice=True)),
    )
    dot = base.mark_point(filled=True, opacity=1, size=80).encode(
        color=_color(legend),
        shape=_shape(legend),
        tooltip=[
            alt.Tooltip("row:N", title="row"),
            alt.Tooltip("y:Q", title=y_title, format=DIGITS),
            alt.Tooltip("note:N", title="cost"),
        ],
    )
    name = base.mark_text(align="left", dx=8, fontSize=10, color="var(--text)").encode(text="row:N")
    return _finished(alt.layer(dot, name), 300)


def heat(x_title: str, slots: Sequence[str]) -> dict[str, Any]:
    """Use of codes: a row a slot. Columns: slot, x, ratio (to even use), note."""
    alt = altair()
    used = alt.Color(
        "ratio:Q",
        scale=alt.Scale(scheme="viridis", domain=[0, 3], clamp=True),
        legend=alt.Legend(title="times even use", orient="bottom", gradientLength=160, direction="horizontal"),
    )
    chart = (
        alt.Chart()
        .mark_rect()
        .encode(
            x=alt.X("x:O", title=x_title, axis=alt.Axis(labels=False, ticks=False, grid=False)),
            y=alt.Y("slot:N", sort=list(slots), title=None, axis=alt.Axis(ticks=False, domain=False, grid=False)),
            color=alt.condition("datum.ratio > 0", used, alt.value("var(--dead)")),
            tooltip=[
                alt.Tooltip("slot:N"),
                alt.Tooltip("note:N", title="codes"),
                alt.Tooltip("ratio:Q", title="times even use", format=".2f"),
            ],
        )
    )
    return _finished(chart, 22 * len(slots))


def bars(x_title: str, y_title: str) -> dict[str, Any]:
    """Bars with whiskers. Columns: x, y, low, high."""
    alt = altair()
    base = alt.Chart().encode(x=alt.X("x:O", title=x_title, axis=alt.Axis(labelAngle=0)))
    bar = base.mark_bar(color="var(--s0)").encode(
        y=alt.Y("y:Q", title=y_title),
        tooltip=[alt.Tooltip("x:O", title=x_title), alt.Tooltip("y:Q", title=y_title, format=".3f")],
    )
    whisker = base.mark_rule(color="var(--text)").encode(y="low:Q", y2="high:Q")
    return _finished(alt.layer(bar, whisker), 160)


def _finished(chart: Any, height: int) -> dict[str, Any]:
    """The chart over ``source`` without what the legend has switched off, as wide as its place."""
    alt = altair()
    muted = alt.param(name="muted", value=[])
    chart = chart.add_params(muted).transform_filter("indexof(muted, datum.series) < 0")
    chart = chart.properties(data=alt.NamedData("source"), width="container", height=height)
    spec: dict[str, Any] = chart.to_dict()
    for key in ("$schema", "config"):  # the page's script has one for all
        spec.pop(key, None)
    return spec


def _names_axis() -> Any:
    return altair().Axis(labelLimit=190, ticks=False, domain=False, grid=True)


def _domain(legend: Sequence[Series], values: Mapping[int, Any]) -> Any:
    alt = altair()
    chosen = [values[series.color] for series in legend]
    return alt.Scale(domain=[series.name for series in legend], range=chosen)


def _color(legend: Sequence[Series]) -> Any:
    values = {series.color: f"var(--s{series.color % COLORS})" for series in legend}
    return altair().Color("series:N", scale=_domain(legend, values), legend=None)


def _shape(legend: Sequence[Series]) -> Any:
    values = {series.color: SHAPES[series.color % len(SHAPES)] for series in legend}
    return altair().Shape("series:N", scale=_domain(legend, values), legend=None)


def _dash(legend: Sequence[Series]) -> Any:
    values = {series.color: DASHES[series.color // COLORS % len(DASHES)] for series in legend}
    return altair().StrokeDash("series:N", scale=_domain(legend, values), legend=None)
