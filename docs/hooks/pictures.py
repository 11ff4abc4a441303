"""Drawings of ``docs/images`` become part of the page, so that they take its colors, light or dark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).resolve().parents[1] / "images"
IMAGE = re.compile(r'(?:<p>)?<img alt="(?P<alt>[^"]*)" src="(?:\.\./)*images/(?P<name>[\w-]+\.svg)"\s*/?>(?:</p>)?')


def on_page_content(content: str, **_: Any) -> str:
    """Every drawing in its own frame."""
    return IMAGE.sub(_drawing, content)


def _drawing(found: re.Match[str]) -> str:
    drawing = (IMAGES / found["name"]).read_text(encoding="utf-8")
    return f'<div class="pipeline">{drawing}</div>'
