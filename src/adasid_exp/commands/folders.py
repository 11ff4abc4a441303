"""What kind of data a folder holds, by the names in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from adasid_exp.types import UserError

TABLES = ("parquet", "csv", "tsv")
BEAUTY = ("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz")
KNOWN = (*BEAUTY, *(f"{name}.{suffix}" for name in ("interactions", "items") for suffix in TABLES), "events")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of folder.

    Attributes:
        name: as chosen with ``--kind``.
        data: the option of ``data=`` that reads it; None: it is read by another key.
        title: what it is, and where that is written.
        fits: whether a folder looks like one.
    """

    name: str
    data: str | None
    title: str
    fits: Callable[[Path], bool]


def _has_table(folder: Path, name: str) -> bool:
    return any((folder / f"{name}.{suffix}").is_file() for suffix in TABLES)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="logs",
            data="logs",
            title="sharded logs (docs/logs.md)",
            fits=lambda folder: (folder / "events").is_dir(),
        ),
        Kind(
            name="beauty",
            data="beauty",
            title="the public files of Amazon Beauty, 2014 (docs/data.md)",
            fits=lambda folder: any((folder / name).is_file() for name in BEAUTY),
        ),
        Kind(
            name="tables",
            data="tables",
            title="tables of interactions and items (docs/data.md)",
            fits=lambda folder: _has_table(folder, "interactions"),
        ),
        Kind(
            name="new_items",
            data=None,
            title="new items for stage=append_sids (docs/data.md)",
            fits=lambda folder: _has_table(folder, "items"),
        ),
    )
}
"""Every kind; the first that fits is it."""


def kind_of_folder(folder: Path) -> Kind:
    """What the folder holds.

    Raises:
        UserError: it is not there, or nothing in it is known.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}{_near(folder)}; name one with data, or data=toy, which needs none")
    for kind in KINDS.values():
        if kind.fits(folder):
            return kind
    there = sorted(path.name for path in folder.iterdir())
    near = [(name, match[0]) for name in there if (match := get_close_matches(name, KNOWN, n=1, cutoff=0.75))]
    hint = f"rename {near[0][0]} to {near[0][1]}?" if near else f"there is: {', '.join(there[:6]) or 'nothing'}"
    raise UserError(
        f"{folder} holds neither interactions.parquet (.csv, .tsv) nor {BEAUTY[0]} nor events/; {hint} (docs/data.md)"
    )


def _near(folder: Path) -> str:
    """The nearest name beside it."""
    if not folder.parent.is_dir():
        return ""
    found = get_close_matches(folder.name, [path.name for path in folder.parent.iterdir()], n=1)
    return f", did you mean {folder.parent / found[0]}?" if found else ""
