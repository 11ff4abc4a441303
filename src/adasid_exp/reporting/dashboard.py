"""What a dashboard shows, as data: one specification for the wandb workspace and for the local report."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from adasid_exp.types import UserError

LINE, BAR, MEDIA = "line", "bar", "media"
KINDS = (LINE, BAR, MEDIA)
EPOCH, STEP = "epoch", "step"
AXES = (EPOCH, STEP)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a dashboard.

    Attributes:
        title: heading.
        stage: whose runs it shows, as the stage is named in the store.
        metrics: what it shows, as loggers name it; ``*`` stands for any text.
        x: ``epoch`` or ``step`` for lines, else None.
        kind: ``line`` (one curve a run), ``bar`` (one bar a run) or ``media`` (pictures and tables).
    """

    title: str
    stage: str
    metrics: tuple[str, ...]
    x: str | None
    kind: str

    def of(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that the panel shows, in the order of its metrics."""
        known = list(names)
        found = (name for metric in self.metrics for name in known if fnmatchcase(name, metric))
        return list(dict.fromkeys(found))


@dataclass(frozen=True, kw_only=True)
class Section:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """Everything that is shown, in order."""

    title: str
    sections: tuple[Section, ...]


def load_dashboard(node: Mapping[str, Any]) -> Dashboard:
    """Reads a `dashboard` node as plain data.

    Raises:
        UserError: a key is missing, unknown or of the wrong kind; the message names where.
    """
    asked = _checked(node, Dashboard, "dashboard")
    sections = _list(asked["sections"], "dashboard.sections")
    return Dashboard(
        title=_text(asked["title"], "dashboard.title"),
        sections=tuple(_section(each, f"dashboard.sections[{place}]") for place, each in enumerate(sections)),
    )


def _section(node: Any, where: str) -> Section:
    asked = _checked(node, Section, where)
    panels = _list(asked["panels"], f"{where}.panels")
    return Section(
        title=_text(asked["title"], f"{where}.title"),
        panels=tuple(_panel(each, f"{where}.panels[{place}]") for place, each in enumerate(panels)),
    )


def _panel(node: Any, where: str) -> Panel:
    asked = _checked(node, Panel, where)
    metrics = _list(asked["metrics"], f"{where}.metrics")
    kind = _one_of(asked["kind"], KINDS, f"{where}.kind")
    x = _one_of(asked["x"], AXES if kind == LINE else (None,), f"{where}.x")
    return Panel(
        title=_text(asked["title"], f"{where}.title"),
        stage=_text(asked["stage"], f"{where}.stage"),
        metrics=tuple(_text(metric, f"{where}.metrics") for metric in metrics),
        x=x,
        kind=kind,
    )


def _checked(node: Any, what: type, where: str) -> Mapping[str, Any]:
    """``node``, which must have the fields of the dataclass ``what`` and no others."""
    wanted = [field.name for field in fields(what)]
    if not isinstance(node, Mapping):
        raise UserError(f"{where}: {node!r} is no {what.__name__.lower()}; it takes the keys {', '.join(wanted)}")
    for key in node:
        if key not in wanted:
            near = difflib.get_close_matches(str(key), wanted, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(wanted)}"
            raise UserError(f"{where} has the unknown key {key!r}; {hint}")
    for key in wanted:
        if key not in node:
            raise UserError(f"{where} lacks the key {key!r}; it takes {', '.join(wanted)}")
    return node


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{where}: {value!r} should be a text")
    return value


def _list(value: Any, where: str) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise UserError(f"{where}: {value!r} should be a list of at least one")
    return value


def _one_of(value: Any, known: Sequence[Any], where: str) -> Any:
    if value not in known:
        raise UserError(f"{where}: {value!r} is unknown; it can be {', '.join(map(_said, known))}")
    return value


def _said(value: Any) -> str:
    return "null" if value is None else str(value)
