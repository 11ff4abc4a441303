"""The parallel head trained on items: a softmax over items whose vectors are made of their codes'."""

from __future__ import annotations

from torch import Tensor

from adasid_exp.functional.steps import one_step_each, trimmed, valid_steps
from adasid_exp.nn.item_prior import ItemPrior
from adasid_exp.nn.losses.next_item import FullSoftmax, NextItemLoss
from adasid_exp.nn.sid_catalogue import SidCatalogue
from adasid_exp.nn.slot_weights import EqualWeights, PadPolicy
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.base import SlotRetriever
from adasid_exp.types import SequenceBatch, SidTable, UserError


class ItemSoftmax(SlotRetriever):
    """An item's logit is the sum of its codes' logits, and training compares whole items.

    One softmax a slot (`ParallelReg4Rec`) learns ``p_l(c_l | u)`` for each slot and takes the product for the
    item's, although slots are not independent. Here the sum of logits is trained to tell the next item from others:
    ``p(i | u) ~ exp(sum_l cos(MLP_l(u), E_l[c_il]) / tau)``. Slots share the evidence out among them.

    Args:
        sids: the SIDs of the whole catalogue.
        counts: interactions of each item in the training part, int64 ``[items]``.
        prior: what they add to the scores, and what the loss's negatives leave out (`InBatchSoftmax` draws them by
            popularity).
        encoder: histories of item tokens to states of the same width.
        hidden: width inside the slots' nets.
        temperature: of the cosine logits.
        init_std: spread of the initial embeddings.
        pad: what an unused slot means: a code of its own, or nothing.
        next_item: the training loss, of states and items' vectors. Each step stands alone: one that avoids items of
            the history avoids the last one only.

    Raises:
        UserError: the loss is a softmax over the whole catalogue.
    """

    def __init__(
        self,
        *,
        sids: SidTable,
        counts: Tensor,
        prior: ItemPrior,
        encoder: CausalTransformer,
        hidden: int,
        temperature: float,
        init_std: float,
        pad: PadPolicy,
        next_item: NextItemLoss,
    ) -> None:
        if isinstance(next_item, FullSoftmax):
            raise UserError(
                "retriever=item_softmax makes vectors of the items it compares only: retriever.next_item=FullSoftmax "
                "asks for all; choose InBatchSoftmax with more negatives"
            )
        catalogue = SidCatalogue(sids=sids, sid_weights=EqualWeights(), pad=pad)
        super().__init__(
            catalogue=catalogue, encoder=encoder, hidden=hidden, temperature=temperature, init_std=init_std
        )
        self.score_by(pad.score_weights(sids.codes), prior, counts)
        self.next_item = next_item
        self.next_item.observe(counts)

    def loss(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        words = self.heads.words(self.states(batch.history)[valid_steps(batch)])
        vectors = self.heads.vectors().flatten(0, 1)

        def of_items(items: Tensor) -> Tensor:
            """The items' code vectors side by side, ``[..., slots * dim]``; times the words, the score."""
            codes = vectors[self.catalogue.rows[items]]
            if self.score_weights is not None:
                codes = codes * self.score_weights[self.catalogue.of_item[items]][..., None]
            return codes.flatten(-2)

        return self.next_item(words.transpose(0, 1).flatten(1)[:, None], of_items, one_step_each(batch))

    def scored(self, states: Tensor) -> Tensor:
        return self.heads(states, self.catalogue.bias)
