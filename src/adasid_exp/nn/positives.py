"""Pairs of items that behavior brings together, to learn from by contrast."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.functional.cooccurrence import Neighbors, draw_neighbors, positive_pairs
from adasid_exp.functional.ranks import place_among


class Positives(nn.Module):
    """The positives of every item, made from histories and so not kept in checkpoints; see `positive_pairs`.

    Args:
        histories: item indices of all users, oldest first, int64 ``[total]``, and where each user's begin,
            int64 ``[users + 1]``: a training part.
        items: size of the catalogue.
        top: nearest items by co-occurrence.
        history: how far back in a history the most similar item is looked for.
    """

    starts: Tensor
    neighbors: Tensor

    def __init__(self, *, histories: tuple[Tensor, Tensor], items: int, top: int, history: int) -> None:
        super().__init__()
        found = positive_pairs(*histories, size=items, top=top, history=history)
        self.register_buffer("starts", found.starts, persistent=False)
        self.register_buffer("neighbors", found.neighbors, persistent=False)

    def draw(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One positive of each item ``index [rows]`` and whether it has any; see `draw_neighbors`."""
        first, total = place_among(len(index))
        draws = torch.rand(total, generator=generator)[first : first + len(index)].to(index.device)
        return draw_neighbors(Neighbors(starts=self.starts, neighbors=self.neighbors), index, draws)
