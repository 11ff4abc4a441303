"""How every figure looks and is written: one palette, one style, SVG and PNG with the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adasid_exp.types import UserError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's colors, which color-blind readers tell apart; grey in place of yellow, which white paper drowns."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""A second way to tell curves apart."""

DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
"""Line styles; each goes once through the palette."""

GREY = "#6E6E6E"
"""Reference lines and remarks."""

WIDTH, HEIGHT = 4.2, 3.1
"""Inches of one panel."""

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "savefig.dpi": 160,
    "svg.hashsalt": "adasid",  # ids of clip paths: else random
}


def canvas(panels: int, columns: int, title: str, height: float = HEIGHT, width: float = WIDTH) -> tuple[Any, Any]:
    """A figure with ``panels`` axes, row by row in ``columns``, and the axes as a flat array.

    Args:
        panels: how many axes.
        columns: how many side by side.
        title: above all panels; empty for none.
        height, width: inches of one panel.

    Raises:
        UserError: matplotlib is not installed.
    """
    matplotlib = _matplotlib()
    columns = min(columns, panels)
    rows = -(-panels // columns)
    matplotlib.rcParams.update(STYLE)  # for good: artists read it whenever they are made
    figure = matplotlib.figure.Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[panels:]:
        spare.remove()
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure, axes[:panels]


def save(figure: Any, path: Path) -> list[Path]:
    """Writes ``path`` with the suffixes ``.svg`` and ``.png``, the same bytes each time; returns both.

    ``path`` names no suffix; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [path.with_name(f"{path.name}.{kind}") for kind in ("svg", "png")]
    figure.savefig(written[0], metadata={"Date": None, "Creator": None})
    figure.savefig(written[1], metadata={"Software": None})
    return written


def line_style(number: int) -> dict[str, Any]:
    """Color and dashes of curve ``number``: distinct for the first 32."""
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number // len(PALETTE) % len(DASHES)]}


def log_scale(axis: Any) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5."""
    ticker = _matplotlib().ticker
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_locator(ticker.NullLocator())


def _matplotlib() -> Any:
    try:
        import matplotlib
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError as error:
        raise UserError("figures need matplotlib; install it with: pip install 'adasid-exp[viz]'") from error
    return matplotlib
