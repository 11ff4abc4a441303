"""SIDs written slot by slot in their order, along a prefix trie: for residual SIDs."""

from __future__ import annotations

import torch
from torch import Tensor

from adasid_exp.functional.beam import SidBeam
from adasid_exp.functional.ragged import best_entries, expanded
from adasid_exp.nn.sid_trie import SidTrie
from adasid_exp.nn.slot_decoder import DecoderMemory
from adasid_exp.retrievers.base import BeamRetriever


class FixedOrder(BeamRetriever):
    """Autoregressive over the slots: ``S(sid) = sum_l log p(c_l | c_1 .. c_{l-1}, user)``.

    ``p`` is the softmax over those codes, PAD among them, with which some SID goes on after ``c_1 .. c_{l-1}``:
    a SID has one path and one score, and the probabilities below a prefix sum to the prefix's own. Training
    shows each slot the slots before it and takes the softmax over all of its classes.
    """

    index: SidTrie

    def index_of(self, classes: Tensor) -> SidTrie:
        return SidTrie(classes=classes)

    def shown(self, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
        slots = self.catalogue.slots
        before = torch.ones(slots, slots, dtype=torch.bool, device=device).tril(-1)
        return before[None], before.new_ones(positions, slots)

    def beam_search(self, memory: DecoderMemory, beam: int) -> SidBeam:
        users = len(memory.states)
        user = torch.arange(users, device=memory.states.device)
        score = memory.states.new_zeros(users)
        low = torch.zeros_like(user)
        high = low + len(self.index.rows)
        for slot in range(self.catalogue.slots):
            many, lows, highs = self.index.branches(slot, low, high)
            owner, _ = expanded(many)
            scores = score[owner] + self._log_probs(memory, slot, user, low, many, lows)
            kept, _ = best_entries(scores, torch.bincount(user[owner], minlength=users), beam)
            user, score, low, high = user[owner[kept]], scores[kept], lows[kept], highs[kept]
        return SidBeam(sids=self.index.order[low].view(users, -1), scores=score.view(users, -1))

    def _log_probs(
        self, memory: DecoderMemory, slot: int, user: Tensor, low: Tensor, many: Tensor, lows: Tensor
    ) -> Tensor:
        """Log-probability of each child given its parent; an only child has log 1 and costs nothing."""
        branching = many > 1
        parent, _ = expanded(many[branching])
        child = branching.repeat_interleave(many)
        code = self.index.rows[lows[child], slot]
        logits = self._logits(memory, slot, user[branching], self.index.rows[low[branching], :slot])
        legal = torch.zeros_like(logits, dtype=torch.bool).index_put_((parent, code), child.new_ones(()))
        log_probs = logits.masked_fill_(~legal, -torch.inf).log_softmax(1)
        found = log_probs.new_zeros(len(lows))
        found[child] = log_probs[parent, code]
        return found

    def _logits(self, memory: DecoderMemory, slot: int, user: Tensor, prefix: Tensor) -> Tensor:
        """Logits ``[positions, classes]`` of the slot after ``prefix`` ``[positions, slot]``."""
        asked = torch.zeros(len(user), self.catalogue.slots, dtype=torch.bool, device=user.device)
        asked[:, slot] = True
        seen = asked.new_ones(1, 1, slot)
        found = self.decoder.logits(memory, user, prefix, seen, asked, self.catalogue.bias)
        return next((logits for _, _, logits in found), memory.states.new_zeros(0, self.catalogue.classes))
