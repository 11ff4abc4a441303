"""Pictures of one artifact for experiment trackers and reports: read from its folder, drawn on demand.

An `assign` artifact shows how its codes are used (slot by code), how many behavior slots items of each tenth of
popularity have, and how strongly each item was aligned; a `tokenize` artifact shows where its codewords lie.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file

from adasid_exp.artifacts.semantic_ids import LAYOUT, SemanticIds
from adasid_exp.functional import codebook
from adasid_exp.reporting.figures import GREY, MARKERS, PALETTE, canvas

ITEMS = "items.parquet"
WEIGHTS = "model.safetensors"

USAGE, SLOTS, ALIGNMENT, CODEWORDS = (
    f"media/{name}" for name in ("codebook_usage", "slots_by_popularity", "alignment_weight", "codewords")
)
"""Names under which trackers receive the pictures."""

DEAREST = 4.0
"""Use of a code, as a multiple of even use, from which on the heatmap's color stays."""

DRAWN = 4000
"""Items shown in a scatter plot at most, evenly spaced over their order."""

Drawing = Callable[[], Any]


def pictures(folder: Path) -> dict[str, Drawing]:
    """What there is to see of an artifact: by name, a function that draws the figure."""
    drawn: dict[str, Drawing] = {}
    if (folder / LAYOUT).exists():
        drawn[USAGE] = partial(_usage_of, folder)
        if (folder / ITEMS).exists():
            drawn |= _of_items(pl.read_parquet(folder / ITEMS))
    if (folder / WEIGHTS).exists():
        words = codewords_of(load_file(folder / WEIGHTS))
        if words:
            drawn[CODEWORDS] = partial(codeword_map, words)
    return drawn


def _of_items(items: pl.DataFrame) -> dict[str, Drawing]:
    drawn: dict[str, Drawing] = {}
    if {"behavior_slots", "active_behavior_slots"} <= set(items.columns):  # the first only a router gives
        slots, count = items["active_behavior_slots"].to_numpy(), items["count"].to_numpy()
        drawn[SLOTS] = partial(slots_by_popularity, slots, count)
    if {"richness", "align_weight"} <= set(items.columns):
        drawn[ALIGNMENT] = partial(alignment_curve, items["richness"].to_numpy(), items["align_weight"].to_numpy())
    return drawn


def _usage_of(folder: Path) -> Any:
    sids = SemanticIds.load(folder)
    counts = codebook.code_counts(sids.table().codes, sids.sizes).numpy()
    return usage_heatmap([row[:size] for row, size in zip(counts, sids.sizes, strict=True)], sids.modalities)


def usage_heatmap(counts: Sequence[np.ndarray], modalities: Sequence[str]) -> Any:
    """Items of each code over even use, codes of a slot in order of use: one row a slot.

    Args:
        counts: items of each code ``[size]`` of every slot.
        modalities: what each slot speaks of.
    """
    wide = max(map(len, counts))
    share = np.full((len(counts), wide), np.nan)
    for slot, row in enumerate(counts):
        share[slot, : len(row)] = np.sort(row)[::-1] / max(row.sum() / len(row), 1e-12)
    figure, (axis,) = canvas(1, 1, "", height=0.32 * len(counts) + 1.3, width=6.4)
    image = axis.imshow(share, aspect="auto", cmap="cividis", vmin=0.0, vmax=DEAREST, interpolation="nearest")
    dead = np.argwhere(share == 0)
    axis.plot(dead[:, 1], dead[:, 0], "x", color="white", markersize=3, markeredgewidth=0.8)
    labels = [f"{slot} {name[:14]}" for slot, name in enumerate(modalities)]
    axis.set(title="Use of codes (white cross: unused)", xlabel="codes of the slot, most used first")
    axis.set_yticks(range(len(labels)), labels)
    axis.grid(visible=False)
    figure.colorbar(image, ax=axis, label="items of the code / even use", extend="max")
    return figure


def slots_by_popularity(slots: np.ndarray, count: np.ndarray) -> Any:
    """How many behavior slots the router leaves on: mean and spread in each tenth of the items by training count.

    Args:
        slots: behavior slots in use ``[items]``.
        count: training interactions ``[items]``.
    """
    parts = np.array_split(np.argsort(count, kind="stable"), 10)
    mean = np.array([slots[part].mean() if len(part) else np.nan for part in parts])
    std = np.array([slots[part].std() if len(part) else np.nan for part in parts])
    tenth = np.arange(1, 11)
    figure, (axis,) = canvas(1, 1, "")
    axis.fill_between(
        tenth, mean - std, mean + std, color=PALETTE[0], alpha=0.2, linewidth=0, label="± one std of items"
    )
    axis.plot(tenth, mean, marker="o", color=PALETTE[0], label="mean")
    axis.set(
        title="Router activity", xlabel="tenth of the items, least to most popular", ylabel="behavior slots in use"
    )
    axis.set(xticks=tenth, ylim=(0, max(1.0, 1.15 * np.nanmax(mean + std))))
    axis.legend(loc="lower right")
    return figure


def alignment_curve(richness: np.ndarray, weight: np.ndarray) -> Any:
    """The alignment weight (Eq. 14) that each item was trained with over its richness, and where the items are.

    Args:
        richness: normalised, ``[items]``.
        weight: of the same items.
    """
    order = np.argsort(richness, kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) - 1, min(DRAWN, len(order))).astype(int))]
    figure, (axis,) = canvas(1, 1, "")
    axis.plot(richness[shown], weight[shown], color=PALETTE[1], label="weight of the item")
    tenths = np.quantile(richness, np.linspace(0.1, 0.9, 9))
    axis.vlines(tenths, 0.0, 0.03, transform=axis.get_xaxis_transform(), color=GREY, label="tenths of the items")
    axis.set(title="Alignment weight", xlabel="richness of the item's behavior", ylabel="alignment weight w")
    axis.legend(loc="upper left")
    return figure


def codewords_of(state: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The codewords ``[size, dim]`` of every slot, read from a tokenizer's state; empty where it keeps none.

    Codebooks keep them as ``words`` or ``codewords`` ``[slots, size, dim]`` (SimVQ: ``basis`` times ``map``). Those
    of an auxiliary autoencoder that gives no SIDs (``alignment``) are left out.
    """
    found: dict[str, np.ndarray] = {}
    for key, values in state.items():
        branch, _, leaf = key.rpartition(".")
        if branch.startswith("alignment") or values.ndim != 3:
            continue
        if leaf in ("words", "codewords"):
            found[key] = values
        elif leaf == "basis" and f"{branch}.map" in state:
            found[key] = values @ state[f"{branch}.map"]
    return [slot for key in sorted(found, key=_natural) for slot in found[key]]


def _natural(key: str) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", key)]


def codeword_map(words: Sequence[np.ndarray]) -> Any:
    """Codewords of all slots in the plane that keeps most of their variance (PCA), one color and marker a slot.

    Args:
        words: ``[size, dim]`` of every slot; all of one dim.
    """
    groups = np.concatenate([np.full(len(slot), number) for number, slot in enumerate(words)])
    plane, kept = principal_plane(np.concatenate(words).astype(np.float64))
    figure, (axis,) = canvas(1, 1, "", height=4.0, width=5.4)
    for slot in range(len(words)):
        points = plane[groups == slot]
        marker = MARKERS[(slot + slot // len(PALETTE)) % len(MARKERS)]
        axis.scatter(
            *points.T, s=14, color=PALETTE[slot % len(PALETTE)], marker=marker, alpha=0.75, label=f"slot {slot}"
        )
    axis.set(title=f"Codewords (PCA, {100 * kept.sum():.0f} % of the variance)")
    axis.set(xlabel=f"first component ({100 * kept[0]:.0f} %)", ylabel=f"second component ({100 * kept[1]:.0f} %)")
    figure.legend(loc="outside right upper")
    return figure


def principal_plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points ``[n, dim]`` on their first two principal components, ``[n, 2]``, and the share of variance of each.

    Signs are such that the largest loading of a component is positive: the same picture each time.
    """
    centered = points - points.mean(axis=0)
    _, scale, axes = np.linalg.svd(centered, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    plane, kept = np.zeros((len(points), 2)), np.zeros(2)
    plane[:, : len(axes)] = centered @ axes.T
    kept[: len(axes)] = scale[: len(axes)] ** 2 / max(float((scale**2).sum()), 1e-12)
    return plane, kept


def pixels(figure: Any) -> np.ndarray:
    """A figure as an RGB image, uint8 ``[height, width, 3]``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    board = FigureCanvasAgg(figure)
    figure.set_dpi(120)
    board.draw()
    return np.asarray(board.buffer_rgba())[..., :3].copy()
