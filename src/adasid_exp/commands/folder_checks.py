"""What is wrong with a folder of data, by kind of folder; the rules are those of the readers in ``data``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.commands.findings import Findings
from adasid_exp.data.amazon_images import read_images
from adasid_exp.data.amazon_metadata import read_meta
from adasid_exp.data.amazon_reviews import read_reviews
from adasid_exp.data.beauty import IMAGES, META, REVIEWS, Beauty
from adasid_exp.data.log_embeddings import blocks, survey_embeddings
from adasid_exp.data.log_events import read_chunk
from adasid_exp.data.log_items import Catalogue, open_catalogue, save_catalogue
from adasid_exp.data.log_source import LogSource
from adasid_exp.data.log_survey import Survey, cut, survey_events
from adasid_exp.data.policy import (
    ARRAY_ROWS,
    ARRAY_TYPE,
    NOT_FINITE,
    ROW,
    TEXT_COLUMNS,
    Fault,
    check_interactions,
    check_items,
    check_known_items,
    finite_rows,
)
from adasid_exp.data.tables import (
    INTERACTION_COLUMNS,
    ITEM_COLUMNS,
    Tables,
    arrays_in,
    load_array,
    load_table,
    typed,
)
from adasid_exp.stages.locations import CONF
from adasid_exp.types import UserError

AT_ONCE = 1 << 20
"""Rows of events that are in memory at once."""
ENOUGH = 3
"""Interactions that leave-one-out needs of a user: one to learn from, one to validate on, one to test on."""


@dataclass(kw_only=True)
class Verdict:
    """What a check found out.

    Attributes:
        findings: what is wrong.
        statistics: sizes; empty where something is wrong.
        notes: what is not wrong but worth knowing.
    """

    findings: Findings
    statistics: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_folder(kind: str, folder: Path, shown: int, overrides: Sequence[str]) -> Verdict:
    """Looks through a folder.

    Args:
        kind: `folders.KINDS`.
        folder: the folder.
        shown: rows of each fault that are kept word for word.
        overrides: ``data.KEY=VALUE``, how logs are to be read.

    Raises:
        UserError: overrides of anything else.
    """
    verdict = Verdict(findings=Findings(on_bad_row="skip", shown=shown))
    if kind == "logs":
        check_logs(data_node("logs", folder, overrides), verdict)
        return verdict
    if overrides:
        raise UserError(f"{overrides[0]}: overrides say how logs are read (data.events.user=uid); this is {kind}")
    {"tables": check_tables, "beauty": check_beauty, "new_items": check_new_items}[kind](folder, verdict)
    return verdict


# ---- tables ----------------------------------------------------------------------------------------------------


def check_tables(folder: Path, verdict: Verdict) -> None:
    """Tables of interactions and items, and arrays."""
    found = verdict.findings
    interactions = table_of(folder, "interactions", INTERACTION_COLUMNS, found)
    items = table_of(folder, "items", ITEM_COLUMNS, found)
    if items is not None:
        file, frame = items
        check_arrays(folder, frame.height, found)
        if "item_id" in frame.columns:
            check_items(frame, file=file, bad=found)
        if interactions is not None and "item_id" in {*frame.columns} & {*interactions[1].columns}:
            known = frame.drop_nulls("item_id")
            check_known_items(
                interactions[1].drop_nulls("item_id"), known, file=interactions[0], catalogue=file, bad=found
            )
    if interactions is not None and {"user_id", "item_id", "timestamp"} <= set(interactions[1].columns):
        check_interactions(interactions[1], file=interactions[0], bad=found)
    if not found.found:
        raw = Tables(root=folder, on_bad_row="error", digest_cache=None).read()
        describe(Dataset.from_raw(raw, minimum_interactions=0), list(raw.notes), verdict)


def table_of(folder: Path, name: str, columns: dict[str, Any], found: Findings) -> tuple[Path, pl.DataFrame] | None:
    """A table with those of its columns that could be read, and its file; None where there is none to read."""
    reader = Tables(root=folder, on_bad_row="skip", digest_cache=None)
    file = found.fatal(folder / name, lambda: reader.file_of(name))
    frame = None if file is None else found.fatal(file, lambda: load_table(file))
    if file is None or frame is None:
        return None
    for column, (conversion, required, expected) in columns.items():
        if column not in frame.columns:
            if required:
                found.report(file=file, row=None, fault=no_column(column, expected, frame.columns), values={})
            continue
        rule = {column: (conversion, required, expected)}
        seen = frame
        read = found.fatal(file, lambda seen=seen, rule=rule: typed(seen, rule, file=file, bad=found))  # type: ignore[misc]
        frame = seen.drop(column) if read is None else read
    return file, frame


def no_column(name: str, expected: str, there: list[str]) -> Fault:
    """A required column that is missing, with the one that may be meant."""
    near = get_close_matches(name, there, n=1, cutoff=0.5)
    remedy = f"rename {near[0]}?" if near else f"add it: {expected}"
    return Fault(reason=f"no column {name}", problem=f"there is no column {name}", remedy=remedy)


def check_arrays(folder: Path, rows: int, found: Findings) -> None:
    """Arrays of embeddings: readable, floats, as many rows as items, all finite, one a modality."""
    seen: dict[str, Path] = {}
    for file in arrays_in(folder):
        name = file.stem.partition("_")[0]
        if name in seen:
            two = Fault(
                reason="second array of a modality",
                problem=f"{seen[name].name} is of the modality {name} too",
                remedy="keep one of the two",
            )
            found.report(file=file, row=None, fault=two, values={})
        seen[name] = file
        array = found.fatal(file, lambda file=file: load_array(file))  # type: ignore[misc]
        if array is not None:
            check_values(array, rows, file, found)


def check_values(array: np.ndarray, rows: int, file: Path, found: Findings) -> None:
    """Type, number of rows, and each of them."""
    if array.dtype.kind != "f" or array.ndim != 2:
        found.report(file=file, row=None, fault=ARRAY_TYPE, values={"dtype": array.dtype, "shape": array.shape})
        return
    if len(array) != rows:
        found.report(file=file, row=None, fault=ARRAY_ROWS, values={"found": len(array), "rows": rows})
    note_not_finite(array, 0, file, found)


def note_not_finite(array: np.ndarray, above: int, file: Path | str, found: Findings) -> None:
    """Notes the rows that hold NaN or Inf; ``above`` them are so many rows of the file."""
    bad = np.flatnonzero(~finite_rows(array))
    for row in bad[: found.shown]:
        value = "NaN" if np.isnan(array[row]).any() else "Inf"
        found.report(file=file, row=above + int(row) + 1, fault=NOT_FINITE, values={"value": value})
    if len(bad) > found.shown:
        found.of(file, NOT_FINITE.reason, NOT_FINITE.remedy).count += len(bad) - found.shown


def describe(dataset: Dataset, notes: list[str], verdict: Verdict) -> None:
    """Sizes, and what the downstream tasks lack."""
    verdict.statistics |= asdict(dataset.statistics())
    verdict.notes += notes
    each = np.bincount(dataset.user)
    few = int((each < ENOUGH).sum())
    if few:
        verdict.notes.append(
            f"{few:,} of {len(each):,} users have fewer than {ENOUGH} interactions: retrieval trains on them "
            "but cannot test on them"
        )
    if not verdict.statistics.get("labelled", 1):
        verdict.notes.append("no `liked` and no `rating`: retrieval works, ranking has nothing to learn")
    if not dataset.arrays and not any(name in dataset.items.columns for name in TEXT_COLUMNS):
        verdict.notes.append("neither text nor arrays: add a title or a .npy, else there is no content to code")


# ---- the public files of Beauty --------------------------------------------------------------------------------


def check_beauty(folder: Path, verdict: Verdict) -> None:
    """Reviews, metadata, image features."""
    found, before = verdict.findings, len(verdict.findings.found)
    missing = Fault(reason="missing file", problem="the file is not there", remedy="make data-beauty fetches it")
    for name in (REVIEWS, META):
        if not (folder / name).is_file():
            found.report(file=folder / name, row=None, fault=missing, values={})
    reviews = read_if_there(folder / REVIEWS, found, lambda file: read_reviews(file, bad=found))
    wanted = None if reviews is None else frozenset(reviews["item_id"].drop_nulls())
    items = read_if_there(folder / META, found, lambda file: read_meta(file, wanted=wanted, bad=found))
    if items is not None:
        check_items(items, file=folder / META, bad=found)
    if items is not None and reviews is not None:
        known = reviews.drop_nulls("item_id")
        check_known_items(known, items, file=folder / REVIEWS, catalogue=folder / META, bad=found)
        ids = sorted(set(items["item_id"].drop_nulls()))
        read_if_there(folder / IMAGES, found, lambda file: read_images(file, item_ids=ids, bad=found))
    if len(found.found) == before:
        found.fatal(folder, lambda: describe_beauty(folder, verdict))


def read_if_there(file: Path, found: Findings, read: Any) -> Any:
    """What ``read`` makes of a file; None where it is not there or cannot be read."""
    return found.fatal(file, lambda: read(file)) if file.is_file() else None


def describe_beauty(folder: Path, verdict: Verdict) -> None:
    """Sizes; the published counts are asserted."""
    node = data_node("beauty", folder, [])
    raw = Beauty(root=folder, on_bad_row="error", digest_cache=None, expected=node.expected).read()
    describe(Dataset.from_raw(raw, minimum_interactions=0), list(raw.notes), verdict)


# ---- new items -------------------------------------------------------------------------------------------------


def check_new_items(folder: Path, verdict: Verdict) -> None:
    """Items that are to join published ones: ids and arrays."""
    found = verdict.findings
    items = table_of(folder, "items", {"item_id": ITEM_COLUMNS["item_id"]}, found)
    if items is None:
        return
    file, frame = items
    if file.suffix != ".parquet":
        wrong = Fault(reason="not Parquet", problem="new items come as items.parquet", remedy="write it as Parquet")
        found.report(file=file, row=None, fault=wrong, values={})
    if "item_id" in frame.columns:
        check_items(frame.select(ROW, "item_id"), file=file, bad=found)
    check_arrays(folder, frame.height, found)
    arrays = {each.stem.partition("_")[0]: each for each in arrays_in(folder)}
    if not arrays:
        none = Fault(reason="no array", problem="there is no .npy", remedy="embed the new items as the published ones")
        found.report(file=folder, row=None, fault=none, values={})
    if not found.found:
        verdict.statistics |= {"items": frame.height}
        verdict.notes += [f"{name}: {each.name}, dim {load_array(each).shape[1]}" for name, each in arrays.items()]


# ---- sharded logs ----------------------------------------------------------------------------------------------


def check_logs(node: DictConfig, verdict: Verdict) -> None:
    """Shards of events, tables of items, embedding shards, a shard at a time."""
    found = verdict.findings
    found.leave = False  # what reads events on relies on the rows left being good
    events, items = instantiate(node["events"]), instantiate(node["items"])
    source = LogSource(root=node.root)
    survey = found.fatal(source.place(events.folder), lambda: survey_events(source, events, found))
    if survey is None:
        return
    catalogue = found.fatal(source.place(items.folder), lambda: catalogue_of(source, items, survey, found))
    if catalogue is None:
        return
    sizes = {"interactions": 0, "impressions": 0}
    users: list[pl.Series] = []
    for chunk in (chunk for piece in cut(survey.shards, AT_ONCE) for chunk in piece):
        part = read_chunk(source, events, chunk, catalogue, found)
        users = [pl.concat([*users, part.user.cast(survey.user_type)]).unique()]
        sizes["interactions"] += int(part.interaction.sum())
        sizes["impressions"] += int((part.label >= 0).sum())
    shards = survey_embeddings(source, items, len(catalogue.used), found)
    for shard in (shard for modality in shards.values() for shard in modality):
        for above, block in blocks(source, shard):
            note_not_finite(block, above, source.place(shard.name), found)
    if not found.found:
        verdict.statistics |= {"users": len(users[0]), "items": int(catalogue.used.sum()), **sizes}
        verdict.notes.append(f"{len(survey.shards)} shards of events, {survey.rows:,} rows")
        verdict.notes += [f"{name}: {len(parts)} shards, dim {parts[0].dim}" for name, parts in shards.items()]


def catalogue_of(source: LogSource, items: Any, survey: Survey, found: Findings) -> Catalogue:
    """The ids of the tables of items."""
    with TemporaryDirectory() as folder:
        save_catalogue(source, items, survey.item_type, Path(folder), found)
        return open_catalogue(Path(folder))


def data_node(name: str, folder: Path, overrides: Sequence[str]) -> DictConfig:
    """The node of ``conf/data`` with its root and what ``data.KEY=VALUE`` say.

    Raises:
        UserError: a key that the node lacks.
    """
    node = OmegaConf.load(CONF / "data" / f"{name}.yaml")
    assert isinstance(node, DictConfig)
    node.root = str(folder)
    OmegaConf.set_struct(node, True)
    for text in overrides:
        key, _, value = text.removeprefix("data.").partition("=")
        try:
            OmegaConf.update(node, key, OmegaConf.create(f"v: {value}").v)
        except OmegaConfBaseException as error:
            raise UserError(f"{text}: data={name} has no such key; conf/data/{name}.yaml lists them") from error
    return node
