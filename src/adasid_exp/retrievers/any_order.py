"""REG4Rec's decoding over unordered slots, the most confident first (arXiv 2508.15308)."""

from __future__ import annotations

import torch
from torch import Tensor

from adasid_exp.functional.beam import SidBeam
from adasid_exp.functional.ragged import best_entries, expanded
from adasid_exp.functional.ranks import drawn_for_all
from adasid_exp.nn.sid_lists import Front, SidLists
from adasid_exp.nn.slot_decoder import DecoderMemory
from adasid_exp.retrievers.base import BeamRetriever


class AnyOrder(BeamRetriever):
    """Learns every slot from any of the others, and fixes next the slot it is surest of.

    Training shows a random subset of slots, of size uniform in 0 .. slots - 1, and asks for the others with
    weight 1 / #others each. Decoding keeps for each partial SID its candidates: the existing SIDs that agree
    with it. A slot in which they all agree is fixed at once, being certain. Of the rest the partial SID
    branches over the codes of one slot, ``argmax_l max_c p_l(c)`` (lowest slot first on a tie).

    The score of a SID is the sum of ``log p`` along its path, ``p`` being renormalised over the codes that
    candidates have. Which slot comes next depends on the user and the codes fixed so far and on nothing else,
    so the partial SIDs of a user are a tree: each SID has one path and one score, no two partial SIDs fix the
    same codes (there is no duplicate to remove), and the probabilities of all existing SIDs sum to 1. The
    same codes along another order would score otherwise; that is the price of a context-dependent order.
    """

    index: SidLists

    def index_of(self, classes: Tensor) -> SidLists:
        return SidLists(classes=classes, count=self.catalogue.classes)

    def shown(self, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
        slots = self.catalogue.slots
        places = drawn_for_all(lambda total: torch.rand(total, slots, device=device), positions).argsort(1)
        known = drawn_for_all(lambda total: torch.randint(slots, (total, 1), device=device), positions)
        given = places < known
        return given[:, None], ~given

    def beam_search(self, memory: DecoderMemory, beam: int) -> SidBeam:
        users = len(memory.states)
        front = self.index.root(users)
        for _ in range(self.catalogue.slots):
            if len(front.row) > len(front.size):  # else each group has one SID left
                front = self._next(memory, front, beam)
        sids = front.row[front.group].view(users, -1)
        return SidBeam(sids=sids, scores=front.score.view(users, -1))

    def _next(self, memory: DecoderMemory, front: Front, beam: int) -> Front:
        """Branches every partial SID with several candidates over one slot and keeps the best of each user."""
        first, agreed = self.index.agreement(front)
        branching = ~agreed.all(1)[front.group]
        log_probs = self._log_probs(memory, front, branching, first, agreed)
        surest = log_probs.amax(2).argmax(1)
        log_probs = log_probs[torch.arange(len(surest), device=surest.device), surest]
        legal = log_probs > -torch.inf

        many, slot = torch.ones_like(front.user), torch.zeros_like(front.user)  # a whole SID "branches" to itself
        many[branching], slot[branching] = legal.sum(1), surest
        parent, _ = expanded(many)
        grown = branching[parent]
        code, score = first[front.group[parent], 0], front.score[parent]
        code[grown] = legal.nonzero()[:, 1]
        score[grown] += log_probs[legal]
        kept, _ = best_entries(score, torch.bincount(front.user[parent], minlength=len(memory.states)), beam)
        origin = parent[kept]
        return self.index.narrowed(
            front, front.user[origin], score[kept], front.group[origin], slot[origin], code[kept]
        )

    def _log_probs(
        self, memory: DecoderMemory, front: Front, branching: Tensor, first: Tensor, agreed: Tensor
    ) -> Tensor:
        """Of the codes each branching partial SID may go on with, -inf elsewhere, ``[branching, slots, classes]``."""
        user, group, allowed = front.user[branching], front.group[branching], self.index.allowed(front)
        fixed, bias = agreed[group], self.catalogue.bias
        found = memory.states.new_full((len(user), *allowed.shape[1:]), -torch.inf)
        for slot, rows, logits in self.decoder.logits(memory, user, first[group], fixed[:, None], ~fixed, bias):
            illegal = ~allowed[:, slot][group[rows]]
            found[rows, slot] = logits.masked_fill_(illegal, -torch.inf).log_softmax(1)
        return found
