"""Command `inspect`: the quality report of any SID table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import torch
from omegaconf import DictConfig
from rich.console import Console

from adasid_exp.artifacts.files import folder_at
from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.artifacts.store import MANIFEST, Store
from adasid_exp.data.sequences import Histories
from adasid_exp.data.sid_tables import SidFile, load_sids
from adasid_exp.functional import codebook
from adasid_exp.functional.agreement import Agreement, copurchase_agreement, label_agreement
from adasid_exp.functional.collisions import DEDUP
from adasid_exp.reporting.figures import save
from adasid_exp.reporting.sid_figure import sid_figure
from adasid_exp.reporting.sid_report import SidReport, csv, markdown, terminal, to_json
from adasid_exp.stages.assign import Assign, quality
from adasid_exp.stages.base import plain
from adasid_exp.stages.loading import load_task
from adasid_exp.stages.prepare import Prepare
from adasid_exp.stages.recording import About, Outcome
from adasid_exp.stages.tracking import drawable, source_of, tell_command
from adasid_exp.types import PAD, UserError

log = logging.getLogger(__name__)

TASK = "retrieval"
"""Whose training part popularity and co-purchases are counted in."""


class Inspect:
    """SID table -> figures on the terminal, in files, as a picture, and to the configured loggers."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    def run(self, store: Store) -> None:
        """Reports.

        Raises:
            UserError: the table cannot be read, or the data set cannot.
        """
        out = folder_at(Path(self.cfg.stage.results), "stage.results")
        name, file = self._table(store)
        report = report_of(name, file, self._catalogue(store), self.cfg.stage.category_depth)
        for suffix, text in (("md", markdown(report)), ("csv", csv(report)), ("json", to_json(report))):
            (out / f"{name}.{suffix}").write_text(text, encoding="utf-8")
        console = Console() if Console().is_terminal else Console(width=140)
        console.print(*terminal(report), sep="\n")
        for note in report.notes:
            console.print(f"- {note}", markup=False, highlight=False)
        pictures = self._picture(report, out)
        self._tell_loggers(report, store)
        kinds = "md,csv,json" + (",svg,png" if pictures else "")
        log.info("report: %s/%s.{%s}", out, name, kinds)

    def _table(self, store: Store) -> tuple[str, SidFile]:
        """The table asked for and its name."""
        if self.cfg.sids is not None:
            path = Path(self.cfg.sids)
            name = path.resolve().name
            return name if path.is_dir() else name.split(".")[0], load_sids(path, plain(self.cfg.stage.sizes))
        if self.cfg.stage.sizes is not None:
            raise UserError("stage.sizes is for a foreign table; name it with sids=PATH or leave stage.sizes out")
        folder = Assign(self.cfg).ensure(store)
        return folder.name, load_sids(folder, None)

    def _catalogue(self, store: Store) -> Catalogue:
        task = load_task(self.cfg, TASK, Prepare(self.cfg).ensure(store))
        return Catalogue(
            name=self.cfg.data.name, items=task.catalogue(), histories=task.histories(), count=task.counts()
        )

    def _picture(self, report: SidReport, out: Path) -> list[Path]:
        if find_spec("matplotlib") is None:
            log.info("no picture: matplotlib is not installed; pip install 'adasid-exp[viz]'")
            return []
        return save(sid_figure(report), out / report.name)

    def _tell_loggers(self, report: SidReport, store: Store) -> None:
        """The figures to every configured logger, the picture to those that take one."""
        folder = Path(self.cfg.sids) if self.cfg.sids is not None else Assign(self.cfg).ensure(store)
        about = About(
            stage="inspect",
            label=report.name,
            signature="",
            logs=Path(self.cfg.runs) / "logs",
            name=report.name,
            config={"table": str(folder), "data": self.cfg.data.name},
        )
        outcome = Outcome(
            output=None,
            inputs=(source_of(folder),) if (folder / MANIFEST).exists() else (),
            metrics=report.flat(),
            pictures=drawable(lambda: {"figure/sid_quality": partial(sid_figure, report)}),
        )
        tell_command(self.cfg, about, outcome)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What is known of items beside their SIDs.

    Attributes:
        name: of the data set.
        items: one row an item in index order; ``item_id``, and ``categories`` where they are known.
        histories: users' sequences of the training part; of logs as many as `scale` lets one process hold.
        count: interactions of each item in the training part, int64 ``[items]``.
    """

    name: str
    items: pl.DataFrame
    histories: Histories
    count: np.ndarray


def report_of(name: str, file: SidFile, catalogue: Catalogue, depth: int | None) -> SidReport:
    """Every figure of a table.

    Args:
        name: of the table.
        file: the table, with what was assumed about it.
        catalogue: what is known of the items; those it lacks are left out of what needs it, and counted.
        depth: levels of the category path that two items must share; None: all.
    """
    sids = file.sids
    counts = codebook.code_counts(sids.table().codes, sids.sizes)
    known, index = known_items(sids, catalogue.items["item_id"])
    whole, slots = figures_of_codes(sids, counts)
    if known.any():
        _add_agreement(whole, slots, sids, known, index, catalogue, depth)
    deciles = by_popularity(sids.codes[known], catalogue.count[index])
    missing = int((~known).sum())
    about = f"Popularity and purchases: training part for {TASK} of the data set {catalogue.name}"
    lacking = f"; {missing:,} of {len(known):,} items of the table are not in it and are left out there"
    notes = [*file.notes, about + (lacking if missing else "; it has every item of the table")]
    if sids.collisions is not None:
        notes.append(f"Collisions: {', '.join(f'{key} {value}' for key, value in sids.collisions.items())}")
    return SidReport(
        name=name,
        whole=whole,
        slots=slots,
        modalities=sids.modalities,
        deciles=deciles,
        usage=[row[:size].numpy() for row, size in zip(counts, sids.sizes, strict=True)],
        notes=notes,
    )


def known_items(sids: SemanticIds, item_ids: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Which items of the table the data set has, bool ``[items]``, and the index there of those that it has."""
    places = pl.DataFrame({"item_id": item_ids.cast(pl.String)}).with_row_index("at")
    found = pl.DataFrame({"item_id": sids.item_ids}).join(places, on="item_id", how="left", maintain_order="left")["at"]
    known = found.is_not_null().to_numpy()
    return known, found.drop_nulls().to_numpy().astype(np.int64)


def figures_of_codes(sids: SemanticIds, counts: torch.Tensor) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Figures of the table and of each slot that need nothing but codes; as `assign` has them, and more."""
    learnt = torch.tensor([modality != DEDUP for modality in sids.modalities])
    columns = {
        "size": torch.tensor(sids.sizes),
        "load": (sids.table().codes != PAD).double().mean(dim=0),
        "utilization": codebook.utilisation(counts, sids.sizes),
        "dead_codes": codebook.dead_codes(counts, sids.sizes),
        "entropy": codebook.token_entropy(counts),
        "entropy_ratio": codebook.token_entropy(counts) / torch.tensor(sids.sizes).log().clamp(min=1e-12),
        "perplexity": codebook.perplexity(counts),
        "gini": codebook.gini(counts, sids.sizes),
    }
    slots = [{name: float(values[slot]) for name, values in columns.items()} for slot in range(len(sids.sizes))]
    whole = {key: value for key, value in quality(sids).items() if "/" not in key}
    whole |= {
        "items": float(len(sids.codes)),
        "slots": float(len(sids.sizes)),
        "gini": float(columns["gini"][learnt].mean()),
        "dead_codes": float(columns["dead_codes"][learnt].sum()),
    }
    return whole, slots


def _add_agreement(
    whole: dict[str, float],
    slots: list[dict[str, float]],
    sids: SemanticIds,
    known: np.ndarray,
    index: np.ndarray,
    catalogue: Catalogue,
    depth: int | None,
) -> None:
    """Agreement of items that share a code, and (last column) of those that share the SID."""
    same_sid = codebook.sid_groups(sids.table().codes).numpy()
    codes = np.column_stack([sids.codes.astype(np.int64), same_sid])[known]
    labels = category_labels(catalogue.items, depth)[index]
    place = np.full(len(catalogue.count), -1)
    place[index] = np.arange(len(index))
    item = place[catalogue.histories.items.numpy()]
    user = np.repeat(np.arange(len(catalogue.histories.offsets) - 1), np.diff(catalogue.histories.offsets.numpy()))
    found: Mapping[str, Agreement] = {
        "category": label_agreement(codes, labels),
        "copurchase": copurchase_agreement(codes, user=user[item >= 0], item=item[item >= 0]),
    }
    for kind, agreement in found.items():
        for column, figures in enumerate([*slots, whole]):
            figures[f"{kind}_rate"] = float(agreement.rate[column])
            figures[f"{kind}_base"] = float(agreement.base[column])
            figures[f"{kind}_lift"] = float(agreement.lift[column])


def category_labels(items: pl.DataFrame, depth: int | None) -> np.ndarray:
    """A number for each category path cut at ``depth``, int64 ``[items]``; -1 where the catalogue names none."""
    if "categories" not in items.columns:
        return np.full(items.height, -1, dtype=np.int64)
    paths = items["categories"] if depth is None else items["categories"].list.head(depth)
    text = paths.list.join(" > ")
    ranks = text.rank("dense").cast(pl.Int64) - 1
    return ranks.set(paths.list.len().fill_null(0) == 0, -1).fill_null(-1).to_numpy()


def by_popularity(codes: np.ndarray, count: np.ndarray) -> list[dict[str, float]]:
    """Slots in use in each tenth of the items by training count (ties by item order); empty for under ten items."""
    if len(codes) < 10:
        return []
    active = (codes != PAD).sum(axis=1)
    return [
        {
            "items": float(len(part)),
            "count": float(count[part].mean()),
            "active_slots": float(active[part].mean()),
            "active_std": float(active[part].std()),
        }
        for part in np.array_split(np.argsort(count, kind="stable"), 10)
    ]
