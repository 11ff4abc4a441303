"""Compact REG4Rec with the parallel head: all slots of the next SID at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adasid_exp.functional.ranks import mean_over_ranks
from adasid_exp.functional.scoring import TopK, exact_top_k, target_rank
from adasid_exp.functional.steps import last_steps, trimmed, valid_steps
from adasid_exp.nn.item_prior import ItemPrior
from adasid_exp.nn.sid_catalogue import SidCatalogue, shares
from adasid_exp.nn.slot_heads import SlotHeads, SlotTokens
from adasid_exp.nn.slot_weights import PadPolicy, SlotWeights
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.base import TrainableRetriever
from adasid_exp.types import SequenceBatch, SidTable, TargetRank


class ParallelReg4Rec(TrainableRetriever):
    """A causal transformer over item tokens made of SIDs, and one classifier per slot.

    An item's score is the sum over slots of the log-probability of its code, and a prior: the whole catalogue is ranked
    exactly, in no order of slots and without a beam.

    Args:
        sids: the SIDs of the whole catalogue.
        encoder: histories of item tokens to states of the same width.
        hidden: width inside the slots' classifiers.
        temperature: of the cosine logits.
        init_std: spread of the initial embeddings.
        sid_weights: how much each slot of a target counts in the loss.
        pad: what an unused slot means to loss and score.
        weigh_scores: whether scores are weighted as the loss is (each SID by the mean over its items).
        counts: interactions of each item in the training part, int64 ``[items]``.
        prior: what they add to the scores.
    """

    score_weights: Tensor | None
    prior: Tensor | None

    def __init__(
        self,
        *,
        sids: SidTable,
        encoder: CausalTransformer,
        hidden: int,
        temperature: float,
        init_std: float,
        sid_weights: SlotWeights,
        pad: PadPolicy,
        weigh_scores: bool,
        counts: Tensor,
        prior: ItemPrior,
    ) -> None:
        super().__init__()
        self.catalogue = SidCatalogue(sids=sids, sid_weights=sid_weights, pad=pad)
        slots, classes, dim = self.catalogue.slots, self.catalogue.classes, encoder.dim
        self.tokens = SlotTokens(slots=slots, classes=classes, width=dim, dim=dim, init_std=init_std)
        self.encoder = encoder
        self.heads = SlotHeads(
            slots=slots, classes=classes, dim=dim, hidden=hidden, temperature=temperature, init_std=init_std
        )
        factors = self.catalogue.targets if weigh_scores else pad.score_weights(sids.codes)
        weights = None if factors is None else shares(self.catalogue.mean_by_sid(factors))
        self.register_buffer("score_weights", weights, persistent=False)
        self.register_buffer("prior", prior(self.catalogue, counts, weights), persistent=False)

    def loss(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        valid = valid_steps(batch)
        target = batch.target[valid]
        log_probs = self._log_probs(self._states(batch.history)[valid])
        chosen = log_probs.gather(2, self.catalogue.classes_of[target].t()[:, :, None]).squeeze(2)
        weights = self.catalogue.loss_weights[target].t()
        # A slot of no weight may hold a class that is not predicted: -inf times 0 would be no number.
        return -mean_over_ranks((chosen.masked_fill(weights == 0, 0.0) * weights).sum(0))

    @torch.no_grad()
    def rank(self, batch: SequenceBatch) -> TargetRank:
        return target_rank(
            self.log_probs(batch),
            self.catalogue.distinct,
            batch.target,
            weights=self.score_weights,
            prior=self.prior,
        )

    @torch.no_grad()
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        weights, prior = (
            None if table is None else table[self.catalogue.of_item] for table in (self.score_weights, self.prior)
        )
        return exact_top_k(self.log_probs(batch), self.catalogue.rows, k, weights=weights, prior=prior)

    def log_probs(self, batch: SequenceBatch) -> Tensor:
        """Log-probabilities of each slot's classes for the next item, ``[users, slots, classes]``.

        Classes that no item has (codes beyond a slot's size, PAD where it is not predicted) read 0, not -inf:
        no score uses them, save PAD slots with factor 0.
        """
        batch = trimmed(batch)
        states = last_steps(self._states(batch.history), batch.length)
        with torch.autocast(states.device.type, enabled=False):  # half precision would tie neighbors
            log_probs = self._log_probs(states.float())
        return log_probs.masked_fill(self.catalogue.bias < 0, 0.0).transpose(0, 1)

    def _states(self, history: Tensor) -> Tensor:
        return self.encoder(self.tokens(self.catalogue.rows[history]))

    def _log_probs(self, states: Tensor) -> Tensor:
        return F.log_softmax(self.heads(states, self.catalogue.bias), dim=-1)
