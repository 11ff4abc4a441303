"""The page as one HTML file: markup, style, data and scripts, and nothing fetched from anywhere.

Its content security policy admits the scripts by their hashes and no network at all. Whatever comes from data is
escaped: in markup by jinja, in the payload by writing ``<`` as ``\\u003c``; the script makes text nodes only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adasid_exp.reporting.page.content import Figure, Page
from adasid_exp.reporting.page.settings import Interner
from adasid_exp.reporting.render import duration, memory
from adasid_exp.reporting.table import MISSING, Column, Table, number
from adasid_exp.types import UserError

HERE = "adasid_exp.reporting.page"


def render(page: Page) -> str:
    """The whole file.

    Raises:
        UserError: vl-convert is not installed.
    """
    scripts = [_asset("theme.js"), vega_bundle(), _asset("page.js")]
    template = _environment().get_template("page.html.j2")
    theme, bundle, script = map(Markup, scripts)
    return template.render(
        page=page,
        policy=_policy(scripts),
        style=Markup(_asset("style.css")),
        theme=theme,
        bundle=bundle,
        script=script,
        payload=Markup(_json(payload(page))),
    )


def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script.

    Raises:
        UserError: vl-convert is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise UserError("the report's figures need vl-convert-python: pip install 'adasid-exp[report]'") from error
    bundle: str = vl_convert.javascript_bundle(snippet=None)  # type: ignore[arg-type]
    return bundle


def payload(page: Page) -> dict[str, Any]:
    """What the page's script reads."""
    return {
        "figures": {figure.name: _figure(figure) for figure in figures_of(page)},
        **_comparable(page),
        "learning": _learning(page),
        "dashboard": page.dashboard,
    }


def figures_of(page: Page) -> Iterator[Figure]:
    """Every figure, in the order of the page."""
    for grid in page.grids:
        yield from grid.figures
    for codebook in page.codebooks:
        yield from codebook.figures


def _figure(figure: Figure) -> list[dict[str, Any]]:
    return [{"spec": plot.spec, "data": plot.data} for plot in figure.plots]


def _comparable(page: Page) -> dict[str, Any]:
    """Runs and the settings of their artifacts, each distinct setting once."""
    interner = Interner()
    packed = {
        one.signature: {
            "stage": one.stage,
            "label": one.label,
            "settings": interner.pack(one.settings),
            "provenance": interner.pack(one.provenance),
        }
        for one in page.artifacts
    }
    views = {view.name: view for view in page.grids}
    listed = [
        {
            "name": run.grid,
            "grid": run.grid_title,
            "row": run.row,
            "label": run.label,
            "part": run.part_title,
            "seed": run.seed,
            "focus": run.row == views[run.grid].focus,
            "reference": run.row in views[run.grid].references,
            "roles": run.roles,
            "figures": run.figures,
        }
        for run in page.runs
    ]
    texts = {"keys": list(interner.keys), "values": list(interner.values), "pairs": interner.pairs}
    return {"runs": listed, "artifacts": packed, **texts}


def _learning(page: Page) -> dict[str, Any]:
    """Curves and figures of each artifact that has any."""
    return {
        one.signature: {
            "curves": {name: [curve.epoch, curve.step, curve.value] for name, curve in one.curves.items()},
            "metrics": one.metrics,
        }
        for one in page.artifacts
        if one.curves or one.metrics
    }


def _json(tree: Any) -> str:
    text = json.dumps(_finite(tree), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _finite(tree: Any) -> Any:
    """What JSON lacks a word for becomes null."""
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    return [_finite(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _policy(scripts: Sequence[str]) -> str:
    """Only these scripts, no network."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return files(HERE).joinpath("assets", name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(HERE, "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "duration": duration, "memory": memory, "percent": _percent}
    environment.globals |= {"blocks": blocks, "missing": MISSING}
    return environment


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def blocks(table: Table) -> list[tuple[str, str, list[Column]]]:
    """Part, title and columns of each block of a table."""
    grouped = groupby(table.columns, key=lambda column: (column.part, column.part_title))
    return [(part, title, list(columns)) for (part, title), columns in grouped]
