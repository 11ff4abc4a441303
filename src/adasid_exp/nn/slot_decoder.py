"""A decoder with one query per slot that sees the user and the slots already fixed (REG4Rec, arXiv 2508.15308)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adasid_exp.nn.slot_heads import SlotHeads, SlotTable


@dataclass(frozen=True, kw_only=True)
class DecoderMemory:
    """What the decoder computes once, however many SIDs it reads for a user.

    Attributes:
        states: of the users, ``[users, dim]``.
        user: their queries, keys and values, ``[users, 3, dim]``.
        slots: queries of the slots, ``[slots, dim]``.
        codes: keys and values of every class of every slot, ``[slots, classes, 2, dim]``.
    """

    states: Tensor
    user: Tensor
    slots: Tensor
    codes: Tensor


class SlotDecoder(nn.Module):
    """Cross-attention of each slot to the user's state and the codes already fixed, then that slot's classifier.

    ``x_l = LN(u + s_l + W_o Attention(W_q (u + s_l); u, codes fixed))``, ``logits_l = cos(MLP_l(x_l), Emb_l) / tau``.
    Codes attend to nothing, so their keys and values are tables: no prefix is ever computed again.

    Args:
        slots: slots of a SID.
        classes: classes of a slot, PAD's (the last) included; a PAD that is fixed is seen like any code.
        dim: width of a state.
        heads: attention heads; divides ``dim``.
        hidden: width inside the slots' classifiers.
        temperature: of the cosine logits.
        init_std: spread of the initial embeddings.
    """

    def __init__(
        self, *, slots: int, classes: int, dim: int, heads: int, hidden: int, temperature: float, init_std: float
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide the width {dim}")
        self.attention_heads = heads
        self.codes = SlotTable(slots=slots, rows=classes, dim=dim, init_std=init_std)
        self.queries = SlotTable(slots=slots, rows=1, dim=dim, init_std=init_std)
        self.code_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.heads = SlotHeads(
            slots=slots, classes=classes, dim=dim, hidden=hidden, temperature=temperature, init_std=init_std
        )

    def remember(self, states: Tensor) -> DecoderMemory:
        """The part that depends on the users' states ``[users, dim]`` alone, and the tables."""
        dim = states.shape[1]
        codes = F.linear(self.code_norm(self.codes.table), self.qkv.weight[dim:], self.qkv.bias[dim:])
        return DecoderMemory(
            states=states,
            user=self.qkv(states).unflatten(1, (3, dim)),
            slots=F.linear(self.queries.table[:, 0], self.qkv.weight[:dim]),
            codes=codes.unflatten(-1, (2, dim)),
        )

    def logits(
        self, memory: DecoderMemory, user: Tensor, classes: Tensor, seen: Tensor, asked: Tensor, bias: Tensor
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Slot by slot, its number, the positions that ask for it, and their logits ``[asking, classes]``.

        Args:
            memory: from `remember`.
            user: whose position it is, int64 ``[positions]``.
            classes: codes of the first slots, int64 ``[positions, known]``; those not seen may be anything.
            seen: which of them each query sees, bool ``[positions or 1, slots or 1, known]``.
            asked: which slots each position asks for, bool ``[positions, slots]``.
            bias: -inf for the classes a slot does not have, 0 for the rest, ``[slots, 1, classes]``.
        """
        slots = asked.any(0).nonzero().flatten().tolist()
        codes = memory.codes[torch.arange(classes.shape[1], device=classes.device), classes]
        source = torch.cat([memory.user[user, None, 1:], codes], dim=1)
        query = memory.user[user, None, 0] + memory.slots[slots]
        seen = seen[:, slots] if seen.shape[1] > 1 else seen
        mixed = self._attend(query, source, F.pad(seen, (1, 0), value=True))
        for place, slot in enumerate(slots):
            rows = asked[:, slot].nonzero().squeeze(1)
            own = memory.states[user[rows]] + self.queries.table[slot]
            states = self.norm(own + self.out(mixed[rows, place]))
            yield slot, rows, self.heads.of_slot(slot, states, bias)

    def _attend(self, query: Tensor, source: Tensor, seen: Tensor) -> Tensor:
        """Queries ``[positions, queries, dim]`` over keys and values ``[positions, known + 1, 2, dim]``."""
        heads, dim = self.attention_heads, query.shape[-1]
        key, value = (part.unflatten(-1, (heads, dim // heads)).transpose(1, 2) for part in source.unbind(2))
        query = query.unflatten(-1, (heads, dim // heads)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None])
        return mixed.transpose(1, 2).flatten(2)
