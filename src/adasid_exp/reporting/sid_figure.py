"""The picture of a SID table: how its codes are used, and whether they say anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from adasid_exp.reporting.figures import GREY, PALETTE, canvas, line_style, log_scale
from adasid_exp.reporting.sid_report import SidReport

LIFTS = {"category_lift": "same category", "copurchase_lift": "bought together in training"}
"""What may agree and how the legend calls it."""

LEAST_LIFT = 0.5
"""Bars are cut off here: on a logarithmic axis a lift of 0 lies infinitely deep."""


def sid_figure(report: SidReport) -> Any:
    """Use of codes by slot, entropy, agreement of items that share a code, slots in use by popularity.

    The last two are there if the data set knows items of the table.
    """
    panels = [_usage, _entropy]
    if any(figures.get(name, 0.0) > 0 for figures in report.slots for name in LIFTS):
        panels.append(_lift)
    if report.deciles:
        panels.append(_deciles)
    figure, axes = canvas(len(panels), 2, f"SID quality: {report.name}", width=4.8)
    for draw, axis in zip(panels, axes, strict=True):
        draw(axis, report)
    return figure


def _usage(axis: Any, report: SidReport) -> None:
    for slot, counts in enumerate(report.usage):
        even = counts.sum() / len(counts)
        share = np.sort(counts)[::-1] / (even or 1.0)
        rank = np.arange(1, len(counts) + 1) / len(counts)
        axis.plot(100 * rank, np.where(share > 0, share, np.nan), label=f"slot {slot}", **line_style(slot))
    axis.axhline(1.0, color=GREY, linewidth=0.9, linestyle=":")
    axis.annotate("even use", (100, 1.0), xytext=(0, 3), textcoords="offset points", ha="right", color=GREY, fontsize=8)
    axis.set(title="Use of codes", xlabel="codes of the slot, most used first (%)", xlim=(0, 101))
    log_scale(axis)
    axis.set_ylabel("items of the code / even use")
    axis.legend(ncols=1 + len(report.usage) // 5, loc="best", handlelength=2.6)


def _entropy(axis: Any, report: SidReport) -> None:
    place = np.arange(len(report.slots))
    entropy = np.asarray([figures["entropy"] for figures in report.slots])
    ceiling = np.log([figures["size"] for figures in report.slots])
    axis.bar(place, entropy, color=PALETTE[0], width=0.66)
    axis.hlines(ceiling, place - 0.42, place + 0.42, color="#000000", linewidth=1.6, label="ln K: all codes used alike")
    for x, figures in zip(place, report.slots, strict=True):
        inside = f"{100 * figures['entropy_ratio']:.0f} %"
        if figures["entropy"] > 0.15 * ceiling.max():
            axis.text(x, figures["entropy"] / 2, inside, ha="center", va="center", color="white", fontsize=8)
    axis.set(title="Entropy of each slot", xlabel="slot", ylabel="entropy (nats)", xticks=place)
    axis.set_ylim(0, 1.22 * max(ceiling.max(), 0.1))
    axis.grid(visible=False, axis="x")
    axis.legend(loc="upper right")
    _name_slots(axis, report)


def _lift(axis: Any, report: SidReport) -> None:
    place = np.arange(len(report.slots))
    log_scale(axis)
    for number, (name, label) in enumerate(LIFTS.items()):
        lift = np.asarray([figures.get(name, np.nan) for figures in report.slots])
        there = np.isfinite(lift)
        height, x = np.maximum(lift[there], LEAST_LIFT), place[there] + (number - 0.5) * 0.36
        axis.bar(x, height - 1.0, bottom=1.0, width=0.34, color=PALETTE[number], label=label)
        for at, top, value in zip(x, height, lift[there], strict=True):
            above = {"xytext": (0, 2 if top >= 1 else -9), "textcoords": "offset points"}
            axis.annotate(f"{value:.2g}" if value < 10 else f"{value:.0f}", (at, top), ha="center", fontsize=7, **above)
    axis.axhline(1.0, color="#000000", linewidth=0.9)
    axis.set(title="Items that share a code", xlabel="slot", ylabel="how much likelier than any pair (lift)")
    axis.set_ylim(0.8 * min(axis.get_ylim()[0], LEAST_LIFT), 1.9 * max(axis.get_ylim()[1], 2.0))
    axis.grid(visible=False, axis="x")
    axis.legend(loc="upper right")
    _name_slots(axis, report)


def _deciles(axis: Any, report: SidReport) -> None:
    tenth = np.arange(1, len(report.deciles) + 1)
    mean = np.asarray([figures["active_slots"] for figures in report.deciles])
    std = np.asarray([figures["active_std"] for figures in report.deciles])
    slots = len(report.slots)
    low, high = np.maximum(mean - std, 0), np.minimum(mean + std, slots)
    axis.fill_between(tenth, low, high, color=PALETTE[2], alpha=0.22, linewidth=0, label="± one std of items")
    axis.plot(tenth, mean, marker="o", color=PALETTE[2], label="mean")
    axis.axhline(slots, color=GREY, linewidth=0.9, linestyle=":")
    axis.annotate("all slots", (tenth[0], slots), xytext=(0, 3), textcoords="offset points", color=GREY, fontsize=8)
    axis.set(title="Slots in use by popularity", xlabel="tenth of the items, least to most popular")
    axis.set(ylabel="slots in use", xticks=tenth, ylim=(0, 1.22 * slots))
    axis.legend(loc="lower right", ncols=2)


def _name_slots(axis: Any, report: SidReport) -> None:
    """Slot numbers, with what they speak of where that is known."""
    names = ["" if modality == "unknown" else modality for modality in report.modalities]
    labels = [f"{slot} {name[:14]}".strip() for slot, name in enumerate(names)]
    axis.set_xticks(range(len(labels)), labels)
    if any(names):
        axis.tick_params(axis="x", rotation=30)
        for label in axis.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
