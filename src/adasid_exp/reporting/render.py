"""One table, four ways: Markdown, CSV, LaTeX, terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby

import polars as pl
from rich.table import Table as RichTable

from adasid_exp.reporting.table import MISSING, Column, Figure, Line, Profile, Table


def duration(seconds: float) -> str:
    """``4 min 10 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def memory(megabytes: float) -> str:
    """``1.2 GiB``."""
    return f"{megabytes / 1024:.1f} GiB"


COST = ("method", "time, all stages", "CPU time", "peak memory")
"""Headings of the costs."""


def _cost(line: Line) -> tuple[str, str, str]:
    cost = line.cost
    if cost is None:
        return MISSING, MISSING, MISSING
    cpu = MISSING if cost.cpu_seconds is None else duration(cost.cpu_seconds)
    return duration(cost.seconds), cpu, memory(cost.peak_memory_mb)


def _cell(figure: Figure | None, **style: object) -> str:
    return "" if figure is None else figure.text(**style)  # type: ignore[arg-type]


def _blocks(table: Table) -> list[tuple[str, list[Column]]]:
    return [(title, list(block)) for title, block in groupby(table.columns, key=lambda column: column.part_title)]


def markdown(table: Table) -> str:
    """GitHub Markdown: one block of columns a table, notes underneath."""
    text = io.StringIO()
    text.write(f"# {table.title}\n")
    for title, columns in _blocks(table):
        text.write(f"\n## {title}\n\n")
        text.write("| method | " + " | ".join(column.title for column in columns) + " |\n")
        text.write("|---" * (len(columns) + 1) + "|\n")
        for line in _taking_part(table.lines, columns):
            cells = [_cell(line.figures[c.part, c.key], bold=("**", "**")) for c in columns]
            text.write(f"| {line.label} | " + " | ".join(cells) + " |\n")
    if table.profiles:
        text.write("\n## By popularity, least to most popular tenth of the items\n\n")
        text.write("| method | | " + " | ".join(map(str, range(1, 11))) + " |\n" + "|---" * 12 + "|\n")
        for profile in table.profiles:
            text.write(f"| {profile.label} | {profile.title} | {' | '.join(_deciles(profile))} |\n")
    text.write(f"\n## Cost\n\n| {' | '.join(COST)} |\n" + "|---" * len(COST) + "|\n")
    for line in table.lines:
        text.write(f"| {line.label} | {' | '.join(_cost(line))} |\n")
    text.write("\n" + "\n".join(f"- {note}" for note in table.notes) + "\n")
    return text.getvalue()


def _taking_part(lines: Sequence[Line], columns: Sequence[Column]) -> list[Line]:
    return [line for line in lines if any(line.figures[c.part, c.key] is not None for c in columns)]


def _deciles(profile: Profile) -> list[str]:
    return [f"{value:.2f}" if value < 100 else f"{value:.0f}" for value in profile.deciles]


def csv(table: Table) -> str:
    """Wide CSV: for each column its mean, std, seeds and the paper's figure."""
    rows = []
    for line in table.lines:
        row: dict[str, object] = {"method": line.name}
        for column in table.columns:
            figure = line.figures[column.part, column.key]
            key = f"{column.part}/{column.key}"
            row |= {
                key: figure.mean if figure else None,
                f"{key}/std": figure.std if figure else None,
                f"{key}/seeds": figure.seeds if figure else None,
                f"{key}/paper": figure.paper if figure else None,
            }
        cost = line.cost
        rows.append(
            row
            | {
                "seconds": cost.seconds if cost else None,
                "cpu_seconds": cost.cpu_seconds if cost else None,
                "peak_memory_mb": cost.peak_memory_mb if cost else None,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None).write_csv()


def latex(table: Table) -> str:
    """A booktabs table; blocks side by side."""
    blocks = _blocks(table)
    spec = "l" + "".join("r" * len(columns) for _, columns in blocks)
    heads = " & ".join(rf"\multicolumn{{{len(columns)}}}{{c}}{{{_tex(title)}}}" for title, columns in blocks)
    names = " & ".join(_tex(column.title) for column in table.columns)
    lines = [
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        rf" & {heads} \\",
        rf"method & {names} \\",
        r"\midrule",
    ]
    for line in table.lines:
        style = {"plus_minus": r" $\pm$ ", "bold": (r"\textbf{", "}")}
        cells = " & ".join(_cell(line.figures[c.part, c.key], **style).replace(MISSING, "--") for c in table.columns)
        lines.append(rf"{_tex(line.label)} & {cells} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _tex(text: str) -> str:
    return text.replace("&", r"\&").replace("%", r"\%").replace("_", r"\_")


def terminal(table: Table) -> list[RichTable]:
    """One rich table a block, the last with costs."""
    tables = []
    for title, columns in _blocks(table):
        rich = RichTable(title=title, title_justify="left", header_style="bold")
        rich.add_column("method", no_wrap=True)
        for column in columns:
            rich.add_column(column.title, justify="right")
        for line in _taking_part(table.lines, columns):
            cells = [_cell(line.figures[c.part, c.key], bold=("[bold]", "[/bold]")) for c in columns]
            rich.add_row(line.label, *[cell.replace(" [0", r" \[0") for cell in cells])
        tables.append(rich)
    if table.profiles:
        tables.append(_profiles(table.profiles))
    costs = RichTable(title="Cost", title_justify="left", header_style="bold")
    for heading in COST:
        costs.add_column(heading)
    for line in table.lines:
        costs.add_row(line.label, *_cost(line))
    return [*tables, costs]


def _profiles(profiles: Sequence[Profile]) -> RichTable:
    """A line per tenth of the catalogue, so that it fits a narrow terminal."""
    rich = RichTable(
        title="By popularity, least to most popular tenth of the items", title_justify="left", header_style="bold"
    )
    for heading in ("tenth", *(f"{profile.label}: {profile.title}" for profile in profiles)):
        rich.add_column(heading, justify="right")
    for tenth, cells in enumerate(zip(*map(_deciles, profiles), strict=True), start=1):
        rich.add_row(str(tenth), *cells)
    return rich
