"""SIDs as they are shipped: the next version of a published table, in which published SIDs do not move."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.artifacts.releases import Release
from adasid_exp.artifacts.semantic_ids import LAYOUT, SemanticIds, Shard, append, read_layout, shards_of
from adasid_exp.artifacts.store import file_digest
from adasid_exp.types import PAD, UserError

FORM = ("modalities", "sizes", "ordered", "pad")
"""What of a layout a model that reads the SIDs depends on."""

SCHEMA = {
    "sids": {
        "item_id": "string, each once over all shards",
        "codes": "fixed_size_list<int16>[slots]; pad in a slot that the item does not use",
        "weights": "fixed_size_list<float>[slots]; 0 at pad, 1 where the method has no weights",
    },
    "inverse": {
        "codes": "fixed_size_list<int16>[slots]",
        "item_ids": "list<string>: items of that SID; a SID may stand in several shards",
        "items": "uint32: how many they are",
    },
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """How a table differs from the one before.

    Attributes:
        added: items that had no SID.
        moved: items whose codes are others now.
        reweighted: items whose codes are the same and whose weights are not.
        removed: items that have no SID any more.
        layout: what of the form is another.
        example: a moved or removed item, in words.
    """

    added: int
    moved: int
    reweighted: int
    removed: int
    layout: tuple[str, ...]
    example: str | None

    @property
    def none(self) -> bool:
        """Whether both are the same table."""
        return not (self.added or self.breaks)

    @property
    def breaks(self) -> bool:
        """Whether a model that learnt the table before may not read this one."""
        return bool(self.moved or self.reweighted or self.removed or self.layout)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A change and what it takes to make it.

    Attributes:
        change: from the version before.
        rows: added items in a layout's columns, in their order.
    """

    change: Change
    rows: pl.DataFrame


def step_between(before: Path, after: Path) -> Step:
    """What turns the SIDs of one folder into those of another; shards that both have are not read.

    Raises:
        UserError: either is unreadable.
    """
    old, new = _digests(before), _digests(after)
    form = {folder: read_layout(folder) for folder in (before, after)}
    layout = tuple(key for key in FORM if form[before][key] != form[after][key])
    left = _rows(before, [name for name, digest in old.items() if digest not in new.values()])
    right = _rows(after, [name for name, digest in new.items() if digest not in old.values()])
    places = right.select("item_id").with_row_index("at")
    at = left.select("item_id").join(places, on="item_id", how="left", maintain_order="left")["at"]
    kept = left.filter(at.is_not_null())
    now = right[at.drop_nulls()]
    added = right.join(left, on="item_id", how="anti", maintain_order="left")
    moved, reweighted = _differ(kept["codes"], now["codes"]), _differ(kept["weights"], now["weights"])
    gone = left.filter(at.is_null())
    change = Change(
        added=added.height,
        moved=int(moved.sum()),
        reweighted=int((reweighted & ~moved).sum()),
        removed=gone.height,
        layout=layout,
        example=_example(kept, now, moved, gone),
    )
    return Step(change=change, rows=added)


def write_next(draft: Path, source: Path, before: Release | None, step: Step | None) -> dict[str, Any]:
    """Fills a draft with the SIDs of ``source``: all of them, or the version before and one shard more.

    Args:
        draft: an empty folder.
        source: a folder of SIDs.
        before: the version to go on from; None writes all.
        step: from there.

    Returns:
        The layout of what was written, with its shards.
    """
    if before is None or step is None or step.change.breaks:
        for name in (
            LAYOUT,
            *(name for shard in shards_of(read_layout(source)) for name in (shard.table, shard.inverse)),
        ):
            shutil.copyfile(source / name, draft / name)
    else:
        append(before.folder, _as_sids(step.rows, read_layout(source)), draft)
    layout = read_layout(draft)
    return {**layout, "shards": [asdict(shard) for shard in shards_of(layout)]}


def facts_of(layout: Mapping[str, Any], before: Release | None, change: Change | None) -> dict[str, Any]:
    """What a manifest says of the SIDs and of how they came from the version before."""
    shards = [Shard(**shard) for shard in layout["shards"]]
    diff = None if change is None or before is None else {"since": before.version, **_plain(change)}
    breaking = change is not None and change.breaks
    return {
        "summary": {
            "items": layout["items"],
            "added": layout["items"] if change is None else change.added,
            "breaking": breaking,
        },
        "slots": [
            {"modality": modality, "size": size}
            for modality, size in zip(layout["modalities"], layout["sizes"], strict=True)
        ],
        "ordered": layout["ordered"],
        "pad": layout["pad"],
        "collisions": layout.get("collisions"),
        "shards": [{"sids": shard.table, "inverse": shard.inverse, "rows": shard.rows} for shard in shards],
        "schema": SCHEMA,
        "change": diff,
    }


def refuse_breaking(change: Change, before: Release) -> None:
    """Published SIDs stay.

    Raises:
        UserError: some do not, or their form is another.
    """
    if not change.breaks:
        return
    counts = {"move": change.moved, "change weight": change.reweighted, "disappear": change.removed}
    what = [f"{count} would {verb}" for verb, count in counts.items() if count]
    if change.layout:
        what = [f"{' and '.join(change.layout)} would differ", *what]
    example = f" ({change.example})" if change.example else ""
    raise UserError(
        f"published SIDs stay: of those in {before.folder} {', '.join(what)}{example}; new items join by "
        "stage=append_sids, others go to another stage.to=FOLDER, stage.allow_moved=true publishes a breaking version"
    )


def _plain(change: Change) -> dict[str, Any]:
    return {key: value for key, value in asdict(change).items() if key != "example"}


def _digests(folder: Path) -> dict[str, str]:
    return {shard.table: file_digest(folder / shard.table) for shard in shards_of(read_layout(folder))}


def _rows(folder: Path, names: Sequence[str]) -> pl.DataFrame:
    """The rows of some shards; of none an empty frame of the same columns."""
    if not names:
        return pl.read_parquet(folder / shards_of(read_layout(folder))[0].table, n_rows=0)
    return pl.concat([pl.read_parquet(folder / name) for name in names])


def _differ(left: pl.Series, right: pl.Series) -> np.ndarray:
    """Rows of two columns of lists that differ, bool ``[rows]``; all of them where the widths do."""
    first, second = left.to_numpy(), right.to_numpy()
    if first.shape != second.shape or not len(first):
        return np.ones(len(first), dtype=bool)
    return (first != second).any(axis=1)


def _example(kept: pl.DataFrame, now: pl.DataFrame, moved: np.ndarray, gone: pl.DataFrame) -> str | None:
    if moved.any():
        row = int(np.argmax(moved))
        return f"item {kept['item_id'][row]}: {_spelt(kept, row)} -> {_spelt(now, row)}"
    return f"item {gone['item_id'][0]} is missing" if gone.height else None


def _spelt(frame: pl.DataFrame, row: int) -> str:
    return "-".join("_" if code == PAD else str(code) for code in frame["codes"][row])


def _as_sids(rows: pl.DataFrame, layout: Mapping[str, Any]) -> SemanticIds:
    return SemanticIds(
        item_ids=rows["item_id"].to_numpy(),
        codes=rows["codes"].to_numpy(),
        weights=rows["weights"].to_numpy(),
        modalities=tuple(layout["modalities"]),
        sizes=tuple(layout["sizes"]),
        ordered=layout["ordered"],
        collisions=layout.get("collisions"),
    )
