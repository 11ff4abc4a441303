"""What a SID table is worth: its figures as Markdown, CSV, JSON and on the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from rich.table import Table as RichTable

MISSING = "—"

WHOLE = {
    "items": "items",
    "slots": "slots",
    "unique_rate": "distinct SIDs / items",
    "collision_rate": "collision rate",
    "max_collision": "items on the most crowded SID",
    "mean_active_length": "slots in use, mean",
    "utilization": "utilisation, mean of slots",
    "entropy": "entropy in nats, mean of slots",
    "entropy_ratio": "entropy / ln K, mean of slots",
    "perplexity": "perplexity, mean of slots",
    "gini": "Gini, mean of slots",
    "dead_codes": "dead codes, all slots",
    "category_rate": "pairs with one SID that share the category",
    "category_base": "any pairs that share the category",
    "copurchase_rate": "pairs with one SID bought together",
    "copurchase_base": "any pairs bought together",
}
"""Figures of the whole table and what they are called."""

SLOT = {
    "size": "K",
    "load": "in use",
    "utilization": "utilisation",
    "dead_codes": "dead",
    "entropy": "entropy, nats",
    "entropy_ratio": "/ ln K",
    "perplexity": "perplexity",
    "gini": "Gini",
    "category_rate": "same category",
    "category_lift": "lift",
    "copurchase_rate": "bought together",
    "copurchase_lift": "lift",
}
"""Figures of a slot and what they are called."""

DECILE = {"items": "items", "count": "interactions, mean", "active_slots": "slots in use, mean", "active_std": "std"}
"""Figures of a tenth of the catalogue and what they are called."""

COUNTS = ("items", "slots", "max_collision", "dead_codes", "size")
SMALL = ("category_rate", "category_base", "copurchase_rate", "copurchase_base")

READING = (
    "Entropies are in nats, over items that use the slot. Pairs are counted exactly; lift is the share among pairs "
    "with equal code over the share among all pairs of items that use the slot, so 1 says that the code tells nothing."
)


@dataclass(frozen=True, kw_only=True)
class SidReport:
    """Quality of one SID table; a figure that does not exist is NaN or absent.

    Attributes:
        name: of the table.
        whole: figures of the table by the names of `WHOLE`.
        slots: figures of each slot by the names of `SLOT`.
        modalities: what each slot speaks of.
        deciles: figures of each tenth of the items by popularity, the least popular first; empty if unknown.
        usage: items that use each code, one array a slot.
        notes: what the figures rest on.
    """

    name: str
    whole: Mapping[str, float]
    slots: Sequence[Mapping[str, float]]
    modalities: Sequence[str]
    deciles: Sequence[Mapping[str, float]]
    usage: Sequence[np.ndarray]
    notes: Sequence[str]

    def flat(self) -> dict[str, float]:
        """Every figure that exists, as ``name``, ``slot0/name``, ``decile1/name``: what loggers take."""
        return {key: value for scope, name, value in self.rows() if (key := f"{scope}/{name}".removeprefix("sid/"))}

    def rows(self) -> Iterator[tuple[str, str, float]]:
        """Scope (``sid``, ``slot0`` .., ``decile1`` ..), name and value of every figure that exists."""
        scopes = {"sid": self.whole}
        scopes |= {f"slot{slot}": figures for slot, figures in enumerate(self.slots)}
        scopes |= {f"decile{tenth}": figures for tenth, figures in enumerate(self.deciles, start=1)}
        for scope, figures in scopes.items():
            for name, value in figures.items():
                if math.isfinite(value):
                    yield scope, name, float(value)


def markdown(report: SidReport) -> str:
    """GitHub Markdown: the table as a whole, its slots, the tenths of the catalogue, notes."""
    parts = [f"# SID quality — {report.name}"]
    for title, head, lines in _blocks(report):
        table = [_row(head), "|---" * len(head) + "|", *map(_row, lines)]
        parts.append(f"## {title}\n\n" + "\n".join(table))
    parts.append("\n".join(f"- {note}" for note in (*report.notes, READING)))
    return "\n\n".join(parts) + "\n"


def csv(report: SidReport) -> str:
    """Long CSV: ``scope, figure, value``."""
    return pl.DataFrame(list(report.rows()), schema=["scope", "figure", "value"], orient="row").write_csv()


def to_json(report: SidReport) -> str:
    """JSON with a list of slots and of tenths; figures that do not exist are null."""
    tree = {
        "name": report.name,
        "sid": _clean(report.whole),
        "slots": [
            {"modality": modality, **_clean(figures)}
            for modality, figures in zip(report.modalities, report.slots, strict=True)
        ],
        "deciles": [_clean(figures) for figures in report.deciles],
        "notes": list(report.notes),
    }
    return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def terminal(report: SidReport) -> list[RichTable]:
    """One rich table a block."""
    tables = []
    for title, head, lines in _blocks(report):
        rich = RichTable(title=title, title_justify="left", header_style="bold")
        for place, name in enumerate(head):
            rich.add_column(name, justify="left" if place == 0 else "right")
        for line in lines:
            rich.add_row(*line)
        tables.append(rich)
    return tables


def _blocks(report: SidReport) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, heading and lines of each table."""
    whole = [[title, _spelt(name, report.whole[name])] for name, title in WHOLE.items() if name in report.whole]
    yield "The table", ["figure", "value"], whole
    shown = [name for name in SLOT if name in report.slots[0]]
    lines = [
        [f"{slot} {modality}".removesuffix(" unknown"), *(_spelt(name, figures[name]) for name in shown)]
        for slot, (modality, figures) in enumerate(zip(report.modalities, report.slots, strict=True))
    ]
    yield "Slots", ["slot", *(SLOT[name] for name in shown)], lines
    if report.deciles:
        tenths = [
            [str(tenth), *(_spelt(name, figures[name]) for name in DECILE)]
            for tenth, figures in enumerate(report.deciles, start=1)
        ]
        yield "By popularity, least to most popular tenth of the items", ["tenth", *DECILE.values()], tenths


def _spelt(name: str, value: float) -> str:
    if not math.isfinite(value):
        return MISSING
    if name in COUNTS:
        return f"{value:,.0f}"
    if name in SMALL:
        return f"{value:.5f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _clean(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in figures.items()}
