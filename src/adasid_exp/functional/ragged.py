"""Lists of different lengths without a loop over them: flat arrays and whose each entry is."""

from __future__ import annotations

import torch
from torch import Tensor

from adasid_exp.functional.scoring import top_k_of_scores


def expanded(many: Tensor) -> tuple[Tensor, Tensor]:
    """The list and the place within it of every entry of lists that are ``many`` ``[lists]`` long, int64 each."""
    owner = torch.arange(len(many), device=many.device).repeat_interleave(many)
    start = many.cumsum(0) - many
    return owner, torch.arange(len(owner), device=many.device) - start[owner]


def padded(values: Tensor, many: Tensor, fill: float) -> Tensor:
    """Flat ``values`` of lists that are ``many`` ``[lists]`` long, as ``[lists, longest]`` with ``fill`` behind."""
    owner, place = expanded(many)
    rows = values.new_full((len(many), int(many.max())), fill)
    rows[owner, place] = values
    return rows


def best_entries(values: Tensor, many: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best entries of each list, ties by the earlier entry.

    Args:
        values: of all lists, one list after the other, above -inf, ``[entries]``.
        many: length of each list, ``[lists]``.
        k: how many to keep; the whole list if it is shorter.

    Returns:
        Places in ``values``, by list and then by falling value, and how many each list keeps ``[lists]``.
    """
    top = top_k_of_scores(padded(values, many, -torch.inf), k)
    real = top.scores > -torch.inf
    start = many.cumsum(0) - many
    return (top.items + start[:, None])[real], real.sum(1)
