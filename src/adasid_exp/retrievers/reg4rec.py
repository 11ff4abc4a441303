"""Compact REG4Rec with the parallel head: all slots of the next SID at once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from adasid_exp.functional.ranks import mean_over_ranks
from adasid_exp.functional.steps import trimmed, valid_steps
from adasid_exp.nn.item_prior import ItemPrior
from adasid_exp.nn.sid_catalogue import SidCatalogue
from adasid_exp.nn.slot_weights import PadPolicy, SlotWeights
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.base import SlotRetriever
from adasid_exp.types import SequenceBatch, SidTable


class ParallelReg4Rec(SlotRetriever):
    """A causal transformer over item tokens made of SIDs, and one classifier per slot.

    An item's score is the sum over slots of the log-probability of its code, and a prior.

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
        super().__init__(
            catalogue=SidCatalogue(sids=sids, sid_weights=sid_weights, pad=pad),
            encoder=encoder,
            hidden=hidden,
            temperature=temperature,
            init_std=init_std,
        )
        self.score_by(self.catalogue.targets if weigh_scores else pad.score_weights(sids.codes), prior, counts)

    def loss(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        valid = valid_steps(batch)
        target = batch.target[valid]
        log_probs = self.scored(self.states(batch.history)[valid])
        chosen = log_probs.gather(2, self.catalogue.classes_of[target].t()[:, :, None]).squeeze(2)
        weights = self.catalogue.loss_weights[target].t()
        # A slot of no weight may hold a class that is not predicted: -inf times 0 would be no number.
        return -mean_over_ranks((chosen.masked_fill(weights == 0, 0.0) * weights).sum(0))

    def scored(self, states: Tensor) -> Tensor:
        return F.log_softmax(self.heads(states, self.catalogue.bias), dim=-1)
