"""One small net and one output codebook per slot, all slots in batched matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SlotTokens(nn.Module):
    """Item tokens: a linear map of an item's concatenated slot embeddings, ``W concat_l Emb_l(c_l)``.

    The map splits into one block per slot, so each codebook is projected once per step and an item's token
    is a sum of table rows: ``slots * classes`` rows are mapped instead of every position. PAD is the zero
    vector.

    Args:
        slots: slots of a SID.
        classes: rows of each slot's table, PAD's (the last) included.
        width: of a slot embedding.
        dim: of a token.
        init_std: spread of the initial embeddings.
    """

    def __init__(self, *, slots: int, classes: int, width: int, dim: int, init_std: float) -> None:
        super().__init__()
        self.embeddings = SlotTable(slots=slots, rows=classes - 1, dim=width, init_std=init_std)
        self.maps = nn.Parameter(torch.empty(slots, width, dim).normal_(std=(slots * width) ** -0.5))
        self.norm = nn.LayerNorm(dim)

    def forward(self, rows: Tensor) -> Tensor:
        """Tokens ``[..., dim]`` of items given as flat table rows, int32 ``[..., slots]``."""
        table = F.pad(torch.bmm(self.embeddings.table, self.maps), (0, 0, 0, 1)).flatten(0, 1)
        tokens = F.embedding_bag(rows.flatten(0, -2), table, mode="sum")
        return self.norm(tokens.view(*rows.shape[:-1], table.shape[1]))


class SlotTable(nn.Module):
    """Codebook tables of all slots, ``[slots, rows, dim]``, spared from weight decay."""

    no_weight_decay = True

    def __init__(self, *, slots: int, rows: int, dim: int, init_std: float) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(slots, rows, dim).normal_(std=init_std))


class SlotHeads(nn.Module):
    """Logits of each slot's classes: cosine of a slot's two-layer net and its output codebook over a
    temperature.

    Args:
        slots: slots of a SID.
        classes: classes of a slot, PAD's (the last) included.
        dim: width of a state.
        hidden: width inside the nets.
        temperature: divides the cosines.
        init_std: spread of the initial output codebooks.
    """

    def __init__(self, *, slots: int, classes: int, dim: int, hidden: int, temperature: float, init_std: float) -> None:
        super().__init__()
        self.slots, self.temperature = slots, temperature
        self.first = nn.Linear(dim, slots * hidden)
        self.second = nn.Parameter(torch.empty(slots, hidden, dim).normal_(std=hidden**-0.5))
        self.output = SlotTable(slots=slots, rows=classes, dim=dim, init_std=init_std)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Logits ``[slots, positions, classes]`` of states ``[positions, dim]``.

        ``bias`` ``[slots, 1, classes]`` is added to them: -inf for classes that a slot does not have.
        """
        return torch.baddbmm(bias, self.words(states), self.vectors().mT)

    def words(self, states: Tensor) -> Tensor:
        """What each slot's net makes of states ``[positions, dim]``: unit vectors ``[slots, positions, dim]``."""
        hidden = F.relu(self.first(states)).unflatten(1, (self.slots, self.second.shape[1])).transpose(0, 1)
        return F.normalize(torch.bmm(hidden, self.second), dim=-1)

    def vectors(self) -> Tensor:
        """The output codebooks over the temperature, ``[slots, classes, dim]``; times a word, a logit."""
        return F.normalize(self.output.table, dim=-1) / self.temperature

    def of_slot(self, slot: int, states: Tensor, bias: Tensor) -> Tensor:
        """Logits ``[positions, classes]`` of one slot from states of its own, ``[positions, dim]``.

        ``bias`` as in `forward`.
        """
        hidden = self.second.shape[1]
        own = slice(slot * hidden, (slot + 1) * hidden)
        words = F.relu(F.linear(states, self.first.weight[own], self.first.bias[own])) @ self.second[slot]
        classes = F.normalize(self.output.table[slot], dim=-1) / self.temperature
        return torch.addmm(bias[slot], F.normalize(words, dim=-1), classes.t())
