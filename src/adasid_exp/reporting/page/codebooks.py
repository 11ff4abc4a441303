"""Pictures of one tokenizer's codes: which are used, by which items, and who shares a SID."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.functional import codebook
from adasid_exp.reporting.page import vega
from adasid_exp.reporting.page.content import CodebookView, Collision, Figure, Plot, Slot
from adasid_exp.types import PAD

BINS = 128
"""Most columns of the heatmap: larger codebooks are shown several codes a column."""

GROUPS, EXAMPLES = 6, 4
"""Collisions shown, and items of each."""

TitlesOf = Callable[[Sequence[str]], list[str]]
"""Names for people of items by their ids."""


def codebook_view(name: str, title: str, sids: SemanticIds, items: pl.DataFrame, titles: TitlesOf) -> CodebookView:
    """Everything the page shows of a table of SIDs.

    Args:
        name: unique on the page.
        title: for people.
        sids: the table.
        items: ``count`` and ``active_slots`` of each item, in the table's order.
        titles: names of items.
    """
    codes = torch.from_numpy(sids.codes.astype(np.int64))
    counts = codebook.code_counts(codes, sids.sizes)
    slots = slots_of(sids, codes, counts)
    facts = [
        ("items", f"{len(codes):,}"),
        ("slots", str(len(slots))),
        ("items that share a SID with an earlier one", f"{100 * float(codebook.collision_rate(codes)):.2f} %"),
        ("largest group with one SID", f"{int(codebook.max_collision(codes)):,}"),
        ("slots in use, mean", f"{float(codebook.active_length(codes).double().mean()):.2f}"),
    ]
    figures = [usage_figure(name, sids, counts)]
    if len(codes) >= 10:
        figures.append(active_figure(name, items["count"].to_numpy(), items["active_slots"].to_numpy()))
    collisions = collisions_of(sids, codes, items["count"].to_numpy(), titles)
    return CodebookView(name=name, title=title, facts=facts, slots=slots, figures=figures, collisions=collisions)


def slots_of(sids: SemanticIds, codes: Tensor, counts: Tensor) -> list[Slot]:
    """The figures of each slot."""
    ceiling = torch.tensor(sids.sizes, dtype=torch.float64).log().clamp(min=1e-12)
    ratio = codebook.token_entropy(counts) / ceiling
    used = codebook.utilisation(counts, sids.sizes)
    load = (codes != PAD).double().mean(dim=0)
    columns = zip(sids.modalities, sids.sizes, ratio.tolist(), used.tolist(), load.tolist(), strict=True)
    return [
        Slot(modality=modality, size=size, entropy_ratio=entropy, utilization=share, load=part)
        for modality, size, entropy, share, part in columns
    ]


def usage_figure(name: str, sids: SemanticIds, counts: Tensor) -> Figure:
    """Heatmap slot x code, the codes of a slot in descending order of use."""
    names = [f"{slot} {modality}" for slot, modality in enumerate(sids.modalities)]
    columns: dict[str, list[Any]] = {"slot": [], "x": [], "ratio": [], "note": []}
    for slot, size in enumerate(sids.sizes):
        use = counts[slot, :size].numpy()
        order = np.argsort(-use, kind="stable")
        even = max(use.sum() / size, 1e-12)
        for place, codes in enumerate(np.array_split(order, min(size, BINS))):
            columns["slot"].append(names[slot])
            columns["x"].append(place)
            columns["ratio"].append(float(f"{use[codes].mean() / even:.3g}"))
            columns["note"].append(_codes_text(codes, use[codes]))
    dead = sum(int((counts[slot, :size] == 0).sum()) for slot, size in enumerate(sids.sizes))
    widest = max(sids.sizes)
    several = f", {widest / BINS:.0f} codes a column" if widest > BINS else ""
    spec = vega.heat(f"codes of the slot, most used first{several}", names)
    alt = (
        f"Heatmap of {len(names)} slots by their codes: how often each is used against even use; {dead} are never used"
    )
    plot = Plot(title="", alt=alt, spec=spec, data=columns)
    text = f"1 is even use. {dead:,} of {sum(sids.sizes):,} codes are used by no item (grey)."
    return Figure(name=f"{name}-usage", title="Use of codes", text=text, legend=(), plots=(plot,))


def _codes_text(codes: np.ndarray, use: np.ndarray) -> str:
    if len(codes) == 1:
        return f"{codes[0]}: {use[0]:,} items"
    return f"{len(codes)} codes: {use.min():,} to {use.max():,} items"


def active_figure(name: str, count: np.ndarray, active: np.ndarray) -> Figure:
    """Slots in use in each tenth of the items by training count, one standard deviation of items beside."""
    tenths = [active[part].astype(np.float64) for part in np.array_split(np.argsort(count, kind="stable"), 10)]
    columns: dict[str, list[float]] = {
        "x": list(range(1, 11)),
        "y": [round(float(part.mean()), 3) for part in tenths],
        "low": [round(float(max(part.mean() - part.std(), 0)), 3) for part in tenths],
        "high": [round(float(part.mean() + part.std()), 3) for part in tenths],
    }
    spec = vega.bars("tenth of the items, least to most popular", "slots in use")
    alt = f"Slots in use by popularity: {columns['y'][0]} in the least, {columns['y'][-1]} in the most popular tenth"
    plot = Plot(title="", alt=alt, spec=spec, data=columns)
    text = "Whiskers: one standard deviation over the items of a tenth."
    return Figure(name=f"{name}-active", title="Slots in use by popularity", text=text, legend=(), plots=(plot,))


def collisions_of(sids: SemanticIds, codes: Tensor, count: np.ndarray, titles: TitlesOf) -> list[Collision]:
    """The largest groups of items with one SID."""
    groups = codebook.sid_groups(codes)
    sizes = torch.bincount(groups)
    largest = sizes.topk(min(GROUPS, len(sizes))).indices
    found = []
    for group in largest[sizes[largest] > 1].tolist():
        members = torch.nonzero(groups == group)[:, 0].numpy()
        shown = members[np.argsort(-count[members], kind="stable")][:EXAMPLES]
        sid = "-".join("·" if code == PAD else str(code) for code in sids.codes[members[0]].tolist())
        examples = titles([str(sids.item_ids[row]) for row in shown])
        found.append(Collision(sid=sid, size=len(members), examples=examples))
    return found
