"""Interactions drawn from a training log, the same ones after a resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adasid_exp.functional.interactions import another_of_run
from adasid_exp.functional.ranks import share_of

MICRO = 2_038_074_743
"""Sets the draws of one step's batches apart."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Interactions and what belongs to them, int64 ``[rows]`` each.

    Attributes:
        user, item: who interacted with what.
        other_item: another item of that user; the same one if she has no other.
        other_user: another user of that item; the same one if it has no other.
        negative: any item of the catalogue; by chance one of the user's.
    """

    user: Tensor
    item: Tensor
    other_item: Tensor
    other_user: Tensor
    negative: Tensor


class Interactions(nn.Module):
    """A training log; one draw a step by seed and step alone, so that a resumed run draws what the first would.

    The log follows the device and stays out of checkpoints; seed and step are in them.

    Args:
        histories: items of every user, one user after the other, int64 ``[total]``, and where each user's
            begin, int64 ``[users + 1]``.
        items: of the catalogue.

    Raises:
        ValueError: an empty log, or one with items the catalogue lacks.
    """

    item: Tensor
    user: Tensor
    user_first: Tensor
    item_first: Tensor
    user_by_item: Tensor
    place_by_item: Tensor
    progress: Tensor

    def __init__(self, *, histories: tuple[Tensor, Tensor], items: int) -> None:
        super().__init__()
        item, user_first = histories
        if not len(item) or int(item.max()) >= items:
            raise ValueError(f"a log of {len(item)} interactions does not fit a catalogue of {items} items")
        self.users, self.items = len(user_first) - 1, items
        user = torch.repeat_interleave(torch.arange(self.users), user_first.diff())
        order = item.argsort(stable=True)
        counts = torch.bincount(item, minlength=items)
        tables = {
            "item": item,
            "user": user,
            "user_first": user_first,
            "item_first": torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            "user_by_item": user[order],
            "place_by_item": torch.empty_like(order).scatter_(0, order, torch.arange(len(order))),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)
        self.register_buffer("progress", torch.tensor([torch.initial_seed() % 2**31, 0]))
        self.seed, self.step = self.progress.tolist()
        self.drawn = 0
        """Draws since the last step: with accumulated gradients a step has several."""
        self.register_load_state_dict_post_hook(_recall)

    @property
    def counts(self) -> Tensor:
        """Interactions of every item, int64 ``[items]``."""
        return self.item_first.diff()

    def after_step(self, step: int) -> None:
        """Let the next draw be another one."""
        self.step, self.drawn = step, 0
        self.progress[1] = step

    def draw(self, rows: int) -> Drawn:
        """Uniform over interactions; of ``rows`` drawn each rank gets its share."""
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self.step + MICRO * self.drawn)
        self.drawn += 1
        first, last = share_of(rows)
        draws = torch.rand(4, rows, dtype=torch.float64, generator=generator)[:, first:last]
        which, item_draw, user_draw, negative = draws.to(self.item.device, non_blocking=True)
        place = (which * len(self.item)).long()
        user, item = self.user[place], self.item[place]
        return Drawn(
            user=user,
            item=item,
            other_item=self.item[_another(place, self.user_first, user, item_draw)],
            other_user=self.user_by_item[_another(self.place_by_item[place], self.item_first, item, user_draw)],
            negative=(negative * self.items).long(),
        )


def _another(place: Tensor, first: Tensor, run: Tensor, draw: Tensor) -> Tensor:
    start = first[run]
    return another_of_run(place, start, first[run + 1] - start, draw)


def _recall(log: Interactions, _keys: Any) -> None:
    """Mirror seed and step, so that a draw does not wait for the device."""
    log.seed, log.step = log.progress.tolist()
