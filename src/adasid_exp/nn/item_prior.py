"""What a score of independent slots owes to how often items are taken at all."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from adasid_exp.nn.sid_catalogue import SidCatalogue


class ItemPrior(ABC):
    """A part of a SID's score that no user changes."""

    @abstractmethod
    def __call__(self, catalogue: SidCatalogue, counts: Tensor, weights: Tensor | None) -> Tensor | None:
        """Float32 ``[distinct]``, added to the score of each distinct SID; None for nothing.

        Args:
            catalogue: the SIDs.
            counts: interactions of each item in the training part, int64 ``[items]``.
            weights: what the slots' log-probabilities are multiplied by, ``[distinct, slots]``; None for ones.
        """


class NoPrior(ItemPrior):
    """``S(i) = sum_l log p_l(c_l | u)`` as it stands."""

    def __call__(self, catalogue: SidCatalogue, counts: Tensor, weights: Tensor | None) -> None:
        return None


class BayesPrior(ItemPrior):
    """``S(i) = sum_l [log p_l(c_l | u) - codes * log p_l(c_l)] + items * log p(i)``.

    With both factors 1 that is Bayes' rule for slots that are independent evidence of the item:
    ``p(i | u) ~ p(i) prod_l p(c_l | u) / p(c_l)``. The bare sum counts popularity once a slot, and that of the codes
    in place of the item's. Popularity is of the training part; a code's is weighted as the loss is, since that is what
    ``p_l`` learns it to be. The items of a SID share their mean, so that they tie. Slots that are weighted bring their
    codes' popularity along, and ``log p(i)`` the slots' mean weight, which keeps the proportion.

    Args:
        codes: how much of the codes' own popularity is taken out.
        items: how much of the item's popularity is put in.
    """

    def __init__(self, *, codes: float, items: float) -> None:
        self.codes, self.items = codes, items

    def __call__(self, catalogue: SidCatalogue, counts: Tensor, weights: Tensor | None) -> Tensor:
        mass = _mass(counts)
        weighted = mass[:, None] * catalogue.loss_weights
        taken = mass.new_zeros(catalogue.classes, catalogue.slots)
        taken.scatter_add_(0, catalogue.classes_of, weighted)
        share = taken / weighted.sum(dim=0)
        log_share = share.where(share > 0, 1.0).log()  # a class that is never learnt (a masked PAD) is no evidence
        code = log_share.gather(0, catalogue.distinct_classes)
        item = _log_popularity(catalogue, mass)
        if weights is not None:
            code, item = code * weights, item * weights.mean(dim=1)
        return (self.items * item - self.codes * code.sum(dim=1)).float()


class PopularityPrior(ItemPrior):
    """``items * log p(i)``, popularity in the training part: for scores that are evidence of an item, not of its codes.

    The items of a SID share their mean, so that they tie.

    Args:
        items: how much of the item's popularity is put in.
    """

    def __init__(self, *, items: float) -> None:
        self.items = items

    def __call__(self, catalogue: SidCatalogue, counts: Tensor, weights: Tensor | None) -> Tensor:
        return (self.items * _log_popularity(catalogue, _mass(counts))).float()


def _mass(counts: Tensor) -> Tensor:
    return counts.double() + 1.0  # an item that nobody took is not impossible


def _log_popularity(catalogue: SidCatalogue, mass: Tensor) -> Tensor:
    return (catalogue.mean_by_sid(mass[:, None]).squeeze(1) / mass.sum()).log()
