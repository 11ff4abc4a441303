"""Cells of the public Amazon files, brought to one form."""

from __future__ import annotations

import html


def identifier(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"id {value!r} is no text")


def clean_text(value: object) -> str | None:
    """Text without HTML's ``&amp;``; a list of texts is joined, an empty one counts as absent."""
    if isinstance(value, str):
        return (html.unescape(value) if "&" in value else value) or None
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return clean_text(" ".join(value))
    if value is not None:
        raise ValueError(f"{value!r} is no text")
    return None
