"""What a retriever is: histories in, the rank of the held-out item among the whole catalogue out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adasid_exp.functional.beam import SidBeam, items_in_beam, rank_in_beam
from adasid_exp.functional.ranks import ratio_over_ranks
from adasid_exp.functional.scoring import TopK, exact_top_k, rank_in_scores, target_rank, top_k_of_scores
from adasid_exp.functional.steps import last_steps, trimmed, valid_steps
from adasid_exp.nn.item_prior import ItemPrior
from adasid_exp.nn.sid_catalogue import SidCatalogue, shares
from adasid_exp.nn.slot_decoder import DecoderMemory, SlotDecoder
from adasid_exp.nn.slot_heads import SlotHeads, SlotTokens
from adasid_exp.nn.slot_weights import PredictPad, SlotWeights
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.types import SequenceBatch, SidTable, TargetRank

BEAMS_AT_ONCE = 4096
"""Partial SIDs decoded at once, over all users: their logits stay near the cache; no result depends on it."""


class Retriever(nn.Module, ABC):
    """Ranks every item of the catalogue for a user; items of the history stay candidates."""

    @abstractmethod
    def rank(self, batch: SequenceBatch) -> TargetRank:
        """Where the held-out item of each user stands."""

    @abstractmethod
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        """The k best items of each user, sorted by (score descending, item ascending)."""


class TrainableRetriever(Retriever):
    """A retriever that learns from the next items of histories."""

    @abstractmethod
    def loss(self, batch: SequenceBatch) -> Tensor:
        """The training loss over all valid steps, a scalar."""


class ScoredRetriever(Retriever):
    """A retriever that scores all items at once, ``[users, items]``."""

    @abstractmethod
    def scores(self, batch: SequenceBatch) -> Tensor:
        """Scores of the whole catalogue, ``[users, items]``."""

    @torch.no_grad()
    def rank(self, batch: SequenceBatch) -> TargetRank:
        return rank_in_scores(self.scores(batch), batch.target)

    @torch.no_grad()
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        return top_k_of_scores(self.scores(batch), k)


class SlotRetriever(TrainableRetriever):
    """Scores an item by the sum over slots of what its code is worth to the user, and a prior.

    The whole catalogue is ranked exactly by look-ups in a table of codes' scores, in no order of slots and without a
    beam.

    Args:
        catalogue: the SIDs of the whole catalogue.
        encoder: histories of item tokens to states of the same width.
        hidden: width inside the slots' nets.
        temperature: of the cosine logits.
        init_std: spread of the initial embeddings.
    """

    score_weights: Tensor | None
    prior: Tensor | None

    def __init__(
        self, *, catalogue: SidCatalogue, encoder: CausalTransformer, hidden: int, temperature: float, init_std: float
    ) -> None:
        super().__init__()
        self.catalogue = catalogue
        slots, classes, dim = catalogue.slots, catalogue.classes, encoder.dim
        self.tokens = SlotTokens(slots=slots, classes=classes, width=dim, dim=dim, init_std=init_std)
        self.encoder = encoder
        self.heads = SlotHeads(
            slots=slots, classes=classes, dim=dim, hidden=hidden, temperature=temperature, init_std=init_std
        )

    @abstractmethod
    def scored(self, states: Tensor) -> Tensor:
        """What each class is worth, of states ``[positions, dim]``: ``[slots, positions, classes]``."""

    def score_by(self, factors: Tensor | None, prior: ItemPrior, counts: Tensor) -> None:
        """Settles what does not depend on a user.

        Args:
            factors: weights of each item's slots, ``[items, slots]`` (a SID's are the mean over its items); None for 1.
            prior: what is added to a SID's score.
            counts: interactions of each item in the training part, int64 ``[items]``.
        """
        weights = None if factors is None else shares(self.catalogue.mean_by_sid(factors))
        self.register_buffer("score_weights", weights, persistent=False)
        self.register_buffer("prior", prior(self.catalogue, counts, weights), persistent=False)

    def states(self, history: Tensor) -> Tensor:
        """States after each step of ``[users, steps]`` histories, ``[users, steps, dim]``."""
        return self.encoder(self.tokens(self.catalogue.rows[history]))

    @torch.no_grad()
    def rank(self, batch: SequenceBatch) -> TargetRank:
        scores, weights = self.slot_scores(batch), self.score_weights
        return target_rank(scores, self.catalogue.distinct, batch.target, weights=weights, prior=self.prior)

    @torch.no_grad()
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        weights, prior = (
            None if table is None else table[self.catalogue.of_item] for table in (self.score_weights, self.prior)
        )
        return exact_top_k(self.slot_scores(batch), self.catalogue.rows, k, weights=weights, prior=prior)

    def slot_scores(self, batch: SequenceBatch) -> Tensor:
        """What each slot's classes are worth for the next item, ``[users, slots, classes]``.

        Classes that no item has (codes beyond a slot's size, PAD where it is not predicted) read 0, not -inf:
        no score uses them, save PAD slots with factor 0.
        """
        batch = trimmed(batch)
        states = last_steps(self.states(batch.history), batch.length)
        with torch.autocast(states.device.type, enabled=False):  # half precision would tie neighbors
            scored = self.scored(states.float())
        return scored.masked_fill(self.catalogue.bias < 0, 0.0).transpose(0, 1)


class BeamRetriever(TrainableRetriever):
    """Writes the SID of the next item slot by slot, and only SIDs that items have.

    Before each slot the codes that no SID goes on with are struck out and the rest renormalised, so that the
    probabilities of all existing SIDs sum to 1. A slot that has one code left costs nothing and adds log 1 = 0.
    At a beam as wide as the catalogue has SIDs nothing is cut and the scores are exact.

    Args:
        sids: the SIDs of the whole catalogue.
        encoder: histories of item tokens to states of the same width.
        decoder: makes the decoder, given ``slots``, ``classes`` and ``dim``.
        init_std: spread of the initial embeddings of item tokens.
        sid_weights: how much each slot of a target counts in the loss.
        pad: PAD is a class, and how much it counts in the loss.
        beam: partial SIDs kept per user; at least the longest list that a metric looks at.
    """

    def __init__(
        self,
        *,
        sids: SidTable,
        encoder: CausalTransformer,
        decoder: Callable[..., SlotDecoder],
        init_std: float,
        sid_weights: SlotWeights,
        pad: PredictPad,
        beam: int,
    ) -> None:
        super().__init__()
        if beam < 1:
            raise ValueError(f"a beam of {beam} holds no SID")
        self.beam = beam
        self.catalogue = SidCatalogue(sids=sids, sid_weights=sid_weights, pad=pad)
        slots, classes, dim = self.catalogue.slots, self.catalogue.classes, encoder.dim
        self.tokens = SlotTokens(slots=slots, classes=classes, width=dim, dim=dim, init_std=init_std)
        self.encoder = encoder
        self.decoder = decoder(slots=slots, classes=classes, dim=dim)
        self.index = self.index_of(self.catalogue.distinct_classes)

    @abstractmethod
    def index_of(self, classes: Tensor) -> nn.Module:
        """What the search looks SIDs up in, made of the distinct ones, int64 ``[distinct, slots]``."""

    @abstractmethod
    def shown(self, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """What training shows and asks for.

        Returns:
            Which slots each slot's query sees, bool ``[positions or 1, slots or 1, slots]``, and which slots are
            asked for, bool ``[positions, slots]``, at least one of each position.
        """

    @abstractmethod
    def beam_search(self, memory: DecoderMemory, beam: int) -> SidBeam:
        """The best SIDs of a few users; ``beam`` is at most the number of distinct SIDs."""

    def loss(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        valid = valid_steps(batch)
        target = batch.target[valid]
        memory = self.decoder.remember(self._states(batch.history)[valid])
        seen, asked = self.shown(len(target), target.device)
        everyone = torch.arange(len(target), device=target.device)
        classes = self.catalogue.classes_of[target]
        weights = self.catalogue.loss_weights[target] * asked / asked.float().mean(1, keepdim=True)
        total = weights.new_zeros(())
        for slot, rows, logits in self.decoder.logits(memory, everyone, classes, seen, asked, self.catalogue.bias):
            entropy = F.cross_entropy(logits.float(), classes[rows, slot], reduction="none")
            total = total + entropy @ weights[rows, slot]
        return ratio_over_ranks(total, len(target))

    @torch.no_grad()
    def rank(self, batch: SequenceBatch) -> TargetRank:
        """Ranks within the beam; a held-out item whose SID is not in it stands behind the whole catalogue."""
        return rank_in_beam(self.search(batch, self.beam), self.catalogue.distinct, batch.target)

    @torch.no_grad()
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        """The k best items that a beam of at least k SIDs finds."""
        return items_in_beam(self.search(batch, max(self.beam, k)), self.catalogue.distinct, k)

    @torch.no_grad()
    def search(self, batch: SequenceBatch, beam: int) -> SidBeam:
        """The best SIDs of each user; all of them, exactly scored, if the catalogue has no more than ``beam``."""
        batch = trimmed(batch)
        beam = min(beam, len(self.catalogue.sharers))
        states = last_steps(self._states(batch.history), batch.length)
        with torch.autocast(states.device.type, enabled=False):  # half precision would tie neighbors
            memories = map(self.decoder.remember, states.float().split(max(1, BEAMS_AT_ONCE // beam)))
            found = [self.beam_search(memory, beam) for memory in memories]
        return SidBeam(sids=torch.cat([f.sids for f in found]), scores=torch.cat([f.scores for f in found]))

    def _states(self, history: Tensor) -> Tensor:
        return self.encoder(self.tokens(self.catalogue.rows[history]))
