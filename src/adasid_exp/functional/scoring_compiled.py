"""A `Scan` for `scoring.exact_top_k` through torch.compile: look-ups, sum and group maxima in one kernel.

On a GPU that is one Triton kernel a tile, on a CPU one C++ loop; give it large tiles there (``items_at_once``), since
each tile waits for the device once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from adasid_exp.functional.scoring import GROUP, Scored


def fused_scan(table: Tensor, items: Scored) -> tuple[Tensor, Tensor]:
    """What `scoring.scan_tile` gives; unweighted sums are equal bit for bit, weighted ones to rounding."""
    size = len(items.rows)
    if size % GROUP:
        items = Scored(*(part if part is None else _filled(part) for part in items))  # type: ignore[arg-type]
    scores, maxima = _compiled()(table, *items)
    if size % GROUP:
        scores[size:] = -torch.inf
        maxima = torch.cat([maxima[:-1], scores[-GROUP:].amax(0, keepdim=True)])
    return scores, maxima


def scores_and_maxima(
    table: Tensor, rows: Tensor, weights: Tensor | None, prior: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores ``[items, users]`` in the order of the slots, and the largest of each group of items."""
    total = torch.zeros_like(table[rows[:, 0]])
    for slot in range(rows.shape[1]):
        looked_up = table[rows[:, slot]]
        total = total + (looked_up if weights is None else looked_up * weights[:, slot, None])
    if prior is not None:
        total = total + prior[:, None]
    return total, total.unflatten(0, (-1, GROUP)).amax(1)


@cache
def _compiled() -> Any:
    return torch.compile(scores_and_maxima, dynamic=True)  # one graph for every size of tile


def _filled(part: Tensor) -> Tensor:
    """More rows (any: 0) up to whole groups."""
    return pad(part, (*[0, 0] * (part.dim() - 1), 0, -len(part) % GROUP))
