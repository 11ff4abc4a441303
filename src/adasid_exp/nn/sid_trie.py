"""All SIDs of a catalogue as a prefix trie in flat arrays."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adasid_exp.functional.ragged import expanded


class SidTrie(nn.Module):
    """A trie over the sorted distinct SIDs: a node is the range of rows that begin with its prefix.

    The children of a range are consecutive, so a compressed row of starts per level holds the whole trie, and
    many nodes are expanded at once by integer arithmetic. Memory is two integers per SID and slot.

    Args:
        classes: distinct SIDs, int64 ``[distinct, slots]``, PAD as a class of its own.

    Attributes:
        rows: the same, sorted by the first slot, then the second, and so on.
        order: which row of ``classes`` each sorted row is, int64 ``[distinct]``.
    """

    rows: Tensor
    order: Tensor
    node_of: Tensor
    first: Tensor

    def __init__(self, *, classes: Tensor) -> None:
        super().__init__()
        rows, place = torch.unique(classes, dim=0, return_inverse=True)
        if len(rows) != len(classes):
            raise ValueError(f"{len(classes)} rows hold only {len(rows)} distinct SIDs")
        differs = (rows[1:] != rows[:-1]).cumsum(1) > 0  # from its predecessor, within the first slots
        node_of = torch.cat([torch.zeros_like(rows[:1]), differs.cumsum(0)]).t().contiguous()
        first = torch.full((node_of.shape[0], len(rows) + 1), len(rows), device=rows.device)
        first.scatter_reduce_(1, node_of, torch.arange(len(rows), device=rows.device).expand_as(node_of), "amin")
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("order", torch.argsort(place), persistent=False)
        self.register_buffer("node_of", node_of, persistent=False)
        self.register_buffer("first", first, persistent=False)

    def branches(self, slot: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next level of ranges ``low <= row < high`` whose rows share the slots before ``slot``.

        Args:
            slot: the slot to fix next.
            low: int64 ``[nodes]``.
            high: int64 ``[nodes]``.

        Returns:
            How many children each node has ``[nodes]``, and the children's ranges, node after node, by class.
        """
        start = self.node_of[slot, low]
        many = self.node_of[slot, high - 1] - start + 1
        owner, place = expanded(many)
        child = start[owner] + place
        return many, self.first[slot, child], self.first[slot, child + 1]
