"""Compact REG4Rec with the parallel head: all slots of the next SID at once (spec section 11, a)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adasid_exp.functional.scoring import (
    DistinctRows,
    TopK,
    distinct_rows,
    exact_top_k,
    flat_rows,
    target_rank,
)
from adasid_exp.functional.steps import last_steps, trimmed, valid_steps
from adasid_exp.nn.slot_heads import SlotHeads, SlotTokens
from adasid_exp.nn.slot_weights import PadPolicy, SlotWeights
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.base import TrainableRetriever
from adasid_exp.types import PAD, SequenceBatch, SidTable, TargetRank


class ParallelReg4Rec(TrainableRetriever):
    """A causal transformer over item tokens made of SIDs, and one classifier per slot.

    An item's score is the sum over slots of the log-probability of its code, so the whole catalogue is ranked
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
    """

    rows: Tensor
    classes_of: Tensor
    loss_weights: Tensor
    bias: Tensor
    distinct: Tensor
    sharers: Tensor
    of_item: Tensor
    score_weights: Tensor | None

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
    ) -> None:
        super().__init__()
        slots, classes = len(sids.sizes), max(sids.sizes) + 1
        dim = encoder.dim
        self.tokens = SlotTokens(slots=slots, classes=classes, width=dim, dim=dim, init_std=init_std)
        self.encoder = encoder
        self.heads = SlotHeads(
            slots=slots, classes=classes, dim=dim, hidden=hidden, temperature=temperature, init_std=init_std
        )
        self._keep(sids, classes, pad, sid_weights(sids), weigh_scores)

    def loss(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        valid = valid_steps(batch)
        target = batch.target[valid]
        log_probs = self._log_probs(self._states(batch.history)[valid])
        chosen = log_probs.gather(2, self.classes_of[target].t()[:, :, None]).squeeze(2)
        return -(chosen * self.loss_weights[target].t()).sum(0).mean()

    @torch.no_grad()
    def rank(self, batch: SequenceBatch) -> TargetRank:
        distinct = DistinctRows(rows=self.distinct, sharers=self.sharers, of_item=self.of_item, shared=self.shared)
        return target_rank(self.log_probs(batch), distinct, batch.target, weights=self.score_weights)

    @torch.no_grad()
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        weights = None if self.score_weights is None else self.score_weights[self.of_item]
        return exact_top_k(self.log_probs(batch), self.rows, k, weights=weights)

    def log_probs(self, batch: SequenceBatch) -> Tensor:
        """Log-probabilities of each slot's classes for the next item, ``[users, slots, classes]``.

        Classes that no item has (codes beyond a slot's size, PAD where it is not predicted) read 0, not -inf:
        no score uses them, save PAD slots with factor 0.
        """
        batch = trimmed(batch)
        states = last_steps(self._states(batch.history), batch.length)
        with torch.autocast(states.device.type, enabled=False):  # half precision would tie neighbors
            log_probs = self._log_probs(states.float())
        return log_probs.masked_fill(self.bias < 0, 0.0).transpose(0, 1)

    def _states(self, history: Tensor) -> Tensor:
        return self.encoder(self.tokens(self.rows[history]))

    def _log_probs(self, states: Tensor) -> Tensor:
        return F.log_softmax(self.heads(states, self.bias), dim=-1)

    def _keep(self, sids: SidTable, classes: int, pad: PadPolicy, weights: Tensor, weigh_scores: bool) -> None:
        """Derives from the SIDs what loss and scores look up; not part of a checkpoint."""
        targets = pad.target_weights(sids.codes, weights)
        rows = flat_rows(sids.codes, classes)
        distinct = distinct_rows(rows)
        self.shared = distinct.shared
        factors = targets if weigh_scores else pad.score_weights(sids.codes)
        tables = {
            "rows": rows,
            "classes_of": torch.where(sids.codes == PAD, classes - 1, sids.codes),
            "loss_weights": _shares(targets),
            "bias": _bias(sids, pad.predicted(sids.codes), classes),
            "distinct": distinct.rows,
            "sharers": distinct.sharers,
            "of_item": distinct.of_item,
            "score_weights": None if factors is None else _shares(_mean_by_row(factors, distinct)),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)


def _bias(sids: SidTable, predicted: Tensor, classes: int) -> Tensor:
    """-inf for the classes a slot does not have, 0 for the rest, float32 ``[slots, 1, classes]``."""
    sizes = torch.tensor(sids.sizes, device=predicted.device)[:, None]
    absent = torch.arange(classes, device=predicted.device) >= sizes
    absent[:, -1] = ~predicted
    return torch.zeros(absent.shape, device=absent.device).masked_fill(absent, -torch.inf)[:, None]


def _shares(weights: Tensor) -> Tensor:
    """Weights of each row divided by their sum, ``[rows, slots]``."""
    return weights / weights.sum(1, keepdim=True)


def _mean_by_row(factors: Tensor, distinct: DistinctRows) -> Tensor:
    """Mean factors of the items that share a SID, ``[distinct, slots]``."""
    sums = factors.new_zeros(len(distinct.rows), factors.shape[1])
    return sums.index_add_(0, distinct.of_item, factors) / distinct.sharers[:, None]
