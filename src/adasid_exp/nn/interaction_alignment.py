"""What aligns an item's quantized vector with the log: DAS's contrastive terms, with users and without."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adasid_exp.functional.interactions import COLDEST, distinct_info_nce, first_seen
from adasid_exp.functional.ranks import (
    gathered,
    gathered_together,
    mean_over_ranks,
    mse_over_ranks,
    shared_rows,
    shares_of,
)
from adasid_exp.functional.standardize import column_moments, z_score
from adasid_exp.functional.straight_through import straight_through
from adasid_exp.nn.disentangled_cf import DisentangledCF
from adasid_exp.nn.interactions import Drawn, Interactions
from adasid_exp.nn.residual_autoencoder import ResidualAutoencoder
from adasid_exp.nn.standardize import BEHAVIOR
from adasid_exp.types import UserError

Semantic = Callable[[Tensor], Tensor]
"""Item indices ``[rows]`` to their quantized vectors ``[rows, latent]``, with the encoder's gradient."""


START_ROWS, REVIVAL_ROWS = 100, 5
"""Users per code that k-means starts from, and among which dead codes look for a place."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One contrast: rows ``[rows, dim]`` that are to find each other, and which candidates of all ranks are new."""

    anchor: Tensor
    candidates: Tensor
    distinct: Tensor
    share: float


class InteractionAlignment(nn.Module, ABC):
    """Base: draws interactions and contrasts what belongs together.

    Args:
        histories: as in `Interactions`.
        items: of the catalogue.
        pairs: interactions drawn a step, over all ranks.
        temperature: divides the cosines; at least 1/80.
        weight: of the contrastive terms in the total loss (the paper's beta).

    Raises:
        UserError: too low a temperature.
    """

    def __init__(
        self, *, histories: tuple[Tensor, Tensor], items: int, pairs: int, temperature: float, weight: float
    ) -> None:
        super().__init__()
        if temperature < COLDEST:
            raise UserError(f"tokenizer.alignment.temperature={temperature}: it must be at least {COLDEST}")
        self.pairs, self.temperature, self.weight = pairs, temperature, weight
        self.interactions = Interactions(histories=histories, items=items)

    @abstractmethod
    def terms(self, drawn: Drawn, semantic: Semantic, quantize: bool) -> dict[str, Tensor]:
        """Weighted terms by name, of the interactions drawn; users' vectors are quantized if ``quantize``."""

    @abstractmethod
    def fit(self, targets: Mapping[str, Tensor]) -> None:
        """Take what is needed of the catalogue's standardised embeddings ``[items, dim]``."""

    def start(self, generator: torch.Generator) -> None:  # noqa: B027
        """End the warm-up."""

    def end_epoch(self, generator: torch.Generator) -> None:  # noqa: B027
        """Called after each pass over the catalogue until codes settle."""

    def forward(self, semantic: Semantic, quantize: bool) -> dict[str, Tensor]:
        """The step's terms by name."""
        with shared_rows(shares_of(self.pairs)):
            return self.terms(self.interactions.draw(self.pairs), semantic, quantize)

    def contrast(self, terms: Sequence[Term]) -> Tensor:
        """The weighted sum of the terms' losses."""
        candidates, first = gathered_together(*(term.candidates for term in terms))
        losses = distinct_info_nce(
            torch.stack([term.anchor for term in terms]),
            torch.stack(candidates),
            torch.stack([term.distinct for term in terms]),
            temperature=self.temperature,
            first=first,
        )
        means = mean_over_ranks(losses, 1)
        return self.weight * torch.stack([term.share * loss for term, loss in zip(terms, means, strict=True)]).sum()


class BehaviorAlignment(InteractionAlignment):
    """Without users: an item with its own behavior embedding, and with another item of one of its users.

    Args:
        dims: width of every embedding, by name; ``behavior`` must be among them.
        latent: width of the quantized vectors.
    """

    behavior: Tensor

    def __init__(
        self,
        *,
        histories: tuple[Tensor, Tensor],
        items: int,
        dims: Mapping[str, int],
        latent: int,
        pairs: int,
        temperature: float,
        weight: float,
    ) -> None:
        super().__init__(histories=histories, items=items, pairs=pairs, temperature=temperature, weight=weight)
        self.projection = nn.Linear(dims[BEHAVIOR], latent, bias=False)
        self.register_buffer("behavior", torch.zeros(items, dims[BEHAVIOR]), persistent=False)

    def fit(self, targets: Mapping[str, Tensor]) -> None:
        self.behavior.copy_(targets[BEHAVIOR])

    def terms(self, drawn: Drawn, semantic: Semantic, quantize: bool) -> dict[str, Tensor]:
        own, other = semantic(torch.cat([drawn.item, drawn.other_item])).chunk(2)
        behavior = self.projection(F.embedding(drawn.item, self.behavior))
        items = self.interactions.items
        one_item, other_items = new_among_all((drawn.item, items), (drawn.other_item, items))
        terms = [
            Term(anchor=own, candidates=behavior, distinct=one_item, share=1.0),
            Term(anchor=own, candidates=other, distinct=other_items, share=1.0),
        ]
        return {"align": self.contrast(terms)}


class DualAlignment(InteractionAlignment):
    """With users, who are coded as items are and whose codes are thrown away after training.

    A user's input is the mean content of her training items, standardised over users. Quantized vectors of users
    and of items are contrasted with each other's and their own debiased vectors, and with those of another user
    of the item and of another item of the user.

    Args:
        dims: width of every embedding, by name; all but ``behavior`` describe users.
        latent: width of the items' quantized vectors.
        user_side: makes the users' autoencoder from ``inputs`` and ``latent``.
        cf: makes the collaborative part from ``users`` and ``items``.
    """

    content: Tensor

    def __init__(
        self,
        *,
        histories: tuple[Tensor, Tensor],
        items: int,
        dims: Mapping[str, int],
        latent: int,
        user_side: Callable[..., ResidualAutoencoder],
        cf: Callable[..., DisentangledCF],
        pairs: int,
        temperature: float,
        weight: float,
    ) -> None:
        super().__init__(histories=histories, items=items, pairs=pairs, temperature=temperature, weight=weight)
        inputs = sum(dim for name, dim in dims.items() if name != BEHAVIOR)
        self.autoencoder = user_side(inputs=inputs, latent=latent)
        self.cf = cf(users=self.interactions.users, items=items)
        self.interest = nn.Linear(self.cf.width, latent, bias=False)
        self.property = nn.Linear(self.cf.width, latent, bias=False)
        self.register_buffer("content", torch.zeros(0, inputs), persistent=False)

    def fit(self, targets: Mapping[str, Tensor]) -> None:
        log = self.interactions
        items = torch.cat([values for name, values in targets.items() if name != BEHAVIOR], dim=1)
        means = F.embedding_bag(log.item, items, log.user_first[:-1], mode="mean")
        moments = column_moments(means, log.user_first.diff() > 0)
        self.content = z_score(means, moments.mean, moments.std)

    def start(self, generator: torch.Generator) -> None:
        self.autoencoder.start(self._sample(START_ROWS, generator), generator)

    def end_epoch(self, generator: torch.Generator) -> None:
        if self.autoencoder.dead:
            self.autoencoder.revive(self._sample(REVIVAL_ROWS, generator), generator)

    def terms(self, drawn: Drawn, semantic: Semantic, quantize: bool) -> dict[str, Tensor]:
        inputs, other = F.embedding(torch.stack([drawn.user, drawn.other_user]), self.content)
        coded = self.autoencoder(inputs, quantize)
        users = torch.cat([coded.straight, coded_apart(self.autoencoder, other, quantize)])
        items = semantic(torch.cat([drawn.item, drawn.other_item]))
        terms = {"user_reconstruction": mse_over_ranks(coded.decoded, inputs)}
        if coded.loss is not None:
            terms["user_quantization"] = coded.loss
        terms |= self.cf(drawn, self.interactions.counts)
        return terms | {"align": self.contrast(self.contrasts(drawn, users, items))}

    def contrasts(self, drawn: Drawn, users: Tensor, items: Tensor) -> list[Term]:
        """Spec section 7: user with item (twice), each with its own debiased vector, each with one that co-occurs.

        A user with an item counts in both directions by half, so that users and items play the same role.
        """
        user, other_user = users.chunk(2)
        item, other_item = items.chunk(2)
        interest, liked = self.interest(self.cf.interest(drawn.user)), self.property(self.cf.property(drawn.item))
        log = self.interactions
        one_user, one_item, other_users, other_items = new_among_all(
            (drawn.user, log.users),
            (drawn.item, log.items),
            (drawn.other_user, log.users),
            (drawn.other_item, log.items),
        )
        return [
            Term(anchor=user, candidates=liked, distinct=one_item, share=0.5),
            Term(anchor=liked, candidates=user, distinct=one_user, share=0.5),
            Term(anchor=interest, candidates=item, distinct=one_item, share=0.5),
            Term(anchor=item, candidates=interest, distinct=one_user, share=0.5),
            Term(anchor=user, candidates=interest, distinct=one_user, share=1.0),
            Term(anchor=item, candidates=liked, distinct=one_item, share=1.0),
            Term(anchor=user, candidates=other_user, distinct=other_users, share=1.0),
            Term(anchor=item, candidates=other_item, distinct=other_items, share=1.0),
        ]

    def _sample(self, rows: int, generator: torch.Generator) -> Tensor:
        """Inputs of at most ``rows`` users a code, of those who have any item."""
        known = self.interactions.user_first.diff().nonzero().squeeze(1)
        size = self.autoencoder.quantizer.books()[0].size
        chosen = torch.randperm(len(known), generator=generator)[: rows * size]
        return self.content[known[chosen.to(known.device)]]


def new_among_all(*drawn: tuple[Tensor, int]) -> list[Tensor]:
    """`first_seen` among the ids ``[rows]`` of all ranks, for each ids and the number of ids there are."""
    everyone, _ = gathered(torch.stack([ids for ids, _ in drawn], dim=1))
    return [first_seen(ids, size) for ids, (_, size) in zip(everyone.unbind(1), drawn, strict=True)]


def coded_apart(network: ResidualAutoencoder, vectors: Tensor, quantize: bool) -> Tensor:
    """Quantized ``vectors [rows, inputs]`` with the encoder's gradient, ``[rows, latent]``.

    Nothing is decoded, and the codebooks neither count these rows nor learn from them.
    """
    latents = network.encoder(vectors)
    if not quantize:
        return latents
    return straight_through(latents, network.quantizer.decode(network.quantizer.encode(latents)))
