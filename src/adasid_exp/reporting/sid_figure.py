"""The picture of a SID table: how its codes are used, and whether they say anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from adasid_exp.reporting.figures import GREY, PALETTE, canvas, line_style
from adasid_exp.reporting.sid_report import SidReport

LEAST_LIFT = 0.5
"""The lift axis shows at least from here to twice no lift."""


def sid_figure(report: SidReport) -> Any:
    """Four panels: use of codes by slot, entropy, agreement of items that share a code, slots in use by popularity."""
    figure, axes = canvas(4, 2, f"SID quality: {report.name}", width=4.8)
    _usage(axes[0], report)
    _entropy(axes[1], report)
    _lift(axes[2], report)
    _deciles(axes[3], report)
    return figure


def _usage(axis: Any, report: SidReport) -> None:
    for slot, counts in enumerate(report.usage):
        even = counts.sum() / len(counts)
        share = np.sort(counts)[::-1] / (even or 1.0)
        rank = np.arange(1, len(counts) + 1) / len(counts)
        axis.plot(100 * rank, np.where(share > 0, share, np.nan), label=f"slot {slot}", **line_style(slot))
    axis.axhline(1.0, color=GREY, linewidth=0.9, linestyle=":")
    axis.annotate("even use", (100, 1.0), xytext=(0, 3), textcoords="offset points", ha="right", color=GREY, fontsize=8)
    axis.set(title="Use of codes", xlabel="codes of the slot, most used first (%)", yscale="log", xlim=(0, 101))
    axis.set_ylabel("items of the code / even use")
    axis.legend(ncols=1 + len(report.usage) // 5, loc="lower left", handlelength=2.6)


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
    kinds = {"category_lift": "same category", "copurchase_lift": "bought together in training"}
    place = np.arange(len(report.slots))
    axis.set(title="Items that share a code", xlabel="slot", xticks=place)
    shown = 0
    for number, (name, label) in enumerate(kinds.items()):
        lift = np.asarray([figures.get(name, np.nan) for figures in report.slots])
        if not (lift > 0).any():
            continue
        shown += 1
        x = place + (number - 0.5) * 0.36
        axis.bar(x, np.maximum(lift, 1e-3) - 1.0, bottom=1.0, width=0.34, color=PALETTE[number], label=label)
        for at, value in zip(x, lift, strict=True):
            if np.isfinite(value):
                axis.annotate(
                    f"{value:.2g}" if value < 10 else f"{value:.0f}", (at, max(value, 1e-3)),
                    xytext=(0, 2 if value >= 1 else -9), textcoords="offset points", ha="center", fontsize=7,
                )  # fmt: skip
    if not shown:
        return _absent(axis, "no item of the table is in the data set,\nor it holds neither categories nor purchases")
    axis.axhline(1.0, color="#000000", linewidth=0.9)
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, LEAST_LIFT), max(high, 2.0) * 1.9)
    axis.set_ylabel("how much likelier than any pair (lift)")
    axis.grid(visible=False, axis="x")
    axis.legend(loc="upper right")
    return _name_slots(axis, report)


def _deciles(axis: Any, report: SidReport) -> None:
    axis.set(title="Slots in use by popularity", xlabel="tenth of the items, least to most popular")
    if not report.deciles:
        return _absent(axis, "no item of the table is in the data set:\nname it with data=")
    tenth = np.arange(1, len(report.deciles) + 1)
    mean = np.asarray([figures["active_slots"] for figures in report.deciles])
    std = np.asarray([figures["active_std"] for figures in report.deciles])
    slots = len(report.slots)
    axis.fill_between(tenth, np.maximum(mean - std, 0), np.minimum(mean + std, slots), color=PALETTE[2], alpha=0.22,
                      linewidth=0, label="± one std of items")  # fmt: skip
    axis.plot(tenth, mean, marker="o", color=PALETTE[2], label="mean")
    axis.set(ylabel="slots in use", xticks=tenth, ylim=(0, 1.22 * slots))
    axis.axhline(slots, color=GREY, linewidth=0.9, linestyle=":")
    axis.annotate("all slots", (tenth[0], slots), xytext=(0, 3), textcoords="offset points", color=GREY, fontsize=8)
    return axis.legend(loc="lower right", ncols=2)


def _name_slots(axis: Any, report: SidReport) -> None:
    """Slot numbers, with what they speak of where that is known and short."""
    names = [modality if modality != "unknown" and len(modality) <= 9 else "" for modality in report.modalities]
    labels = [f"{slot}\n{name}" if name else str(slot) for slot, name in enumerate(names)]
    axis.set_xticks(range(len(labels)), labels, fontsize=8 if len(labels) <= 8 else 6)


def _absent(axis: Any, why: str) -> None:
    """Says why a panel is empty."""
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", color=GREY)
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
