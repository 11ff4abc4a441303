"""The embedded data set: a generated catalogue with planted structure, so that everything runs without files.

Items belong to latent classes; text, vision and behavior each see the latent through their own random map
and add a part of their own. Users like a few classes, are led on by what they chose last, and choose the more
readily the more popular an item is (Zipf). Nothing here drifts with the calendar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from adasid_exp.data.raw import RawTables, TableReader

VERSION = 1
"""Raised when the generator changes what it generates; part of the fingerprint."""

LATENT, PRIVATE = 16, 8
"""Width of the latent that modalities share, and of the part each has for itself."""
TEXT, VISION, BEHAVIOR = 64, 48, 32
"""Widths of the modalities."""
LEAST = 5
"""Interactions that every user and item has at least, as in the public 5-core data."""
LONGEST = 40
DAYS = 720
DAY = 86_400
START = 1_325_376_000  # 1 January 2012, unix seconds
LABELLED, LIKED = 0.8, 0.8
"""Shares of rows with a known label, and of likes, as in Beauty."""
MEMORY = 0.5
"""How much of a user's state is left after the next choice."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The planted truth about items.

    Attributes:
        group: latent class, int64 ``[items]``.
        text, vision: the content modalities, float32 ``[items, dim]``.
        behavior: direction of the true behavior vector, float64 ``[items, 32]``, unit norm.
        popularity: share of all choices if nobody had a taste, float64 ``[items]``.
        centers: direction of each class in behavior space, float64 ``[classes, 32]``, unit norm.
    """

    group: np.ndarray
    text: np.ndarray
    vision: np.ndarray
    behavior: np.ndarray
    popularity: np.ndarray
    centers: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What users chose, by user, oldest first.

    Attributes:
        user, item: int64 ``[rows]``.
        taste: direction of each user's lasting taste, float64 ``[users, 32]``, unit norm.
    """

    user: np.ndarray
    item: np.ndarray
    taste: np.ndarray


class Toy(TableReader):
    """Generates the toy data set; equal arguments give equal bytes.

    Args:
        users, items, classes: sizes of the world.
        mean_length: mean interactions of a user before rare items are topped up.
        zipf_exponent: of popularity over popularity rank.
        preference: log odds between an item along the user's taste and one across it.
        momentum: weight of the last items against the lasting taste.
        tail_noise: an item with count n is chosen by a vector that is noise to the share
            ``min(1, tail_noise / sqrt(1 + n))``.
        seed: of the data.
    """

    def __init__(
        self,
        *,
        users: int,
        items: int,
        classes: int,
        mean_length: float,
        zipf_exponent: float,
        preference: float,
        momentum: float,
        tail_noise: float,
        seed: int,
    ) -> None:
        self.users, self.items, self.classes, self.seed = users, items, classes, seed
        self.mean_length, self.zipf_exponent = mean_length, zipf_exponent
        self.preference, self.momentum, self.tail_noise = preference, momentum, tail_noise

    def fingerprint(self) -> dict[str, Any]:
        """The arguments and the generator's version."""
        return {"reader": "toy", "version": VERSION, **vars(self)}

    def read(self) -> RawTables:
        """The generated tables; ``true_behavior`` and the column ``class`` hold the planted truth."""
        catalogue, choices = self.catalogue(), self.choices()
        return RawTables(
            interactions=self._interactions(catalogue, choices),
            items=_item_frame(catalogue, self._generator("words")),
            arrays={
                "text": catalogue.text,
                "vision": catalogue.vision,
                "true_behavior": catalogue.behavior.astype(np.float32),
            },
            notes=(f"generated with seed {self.seed}: text and vision are planted, not real",),
        )

    def _generator(self, purpose: str) -> np.random.Generator:
        """An independent stream for each purpose, so that one part can change without moving another."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def catalogue(self) -> Catalogue:
        """The items."""
        generator = self._generator("catalogue")
        group = generator.permutation(np.arange(self.items) % self.classes)
        centers = generator.normal(size=(self.classes, LATENT))
        latent = centers[group] + 0.5 * generator.normal(size=(self.items, LATENT))
        to_behavior = generator.normal(size=(LATENT, BEHAVIOR))
        own = 1.5 * generator.normal(size=(self.items, BEHAVIOR))  # what content cannot tell
        return Catalogue(
            group=group,
            text=_view(generator, latent, TEXT),
            vision=_view(generator, latent, VISION),
            behavior=_unit(latent @ to_behavior + own),
            popularity=self._popularity(generator),
            centers=_unit(centers @ to_behavior),
        )

    def _popularity(self, generator: np.random.Generator) -> np.ndarray:
        """Zipf, lifted by a floor that leaves few items below `LEAST`; in random order."""
        zipf = np.arange(1, self.items + 1) ** -self.zipf_exponent
        floor = min(0.5, (LEAST + 2) * self.items / (self.users * self.mean_length))
        return generator.permutation((1 - floor) * zipf / zipf.sum() + floor / self.items)

    def choices(self) -> Choices:
        """Sequences without repeats, one step of all users at a time."""
        catalogue, generator = self.catalogue(), self._generator("choices")
        taste = _tastes(generator, catalogue.centers, self.users)
        lengths = np.minimum(LEAST + generator.geometric(1 / (self.mean_length - LEAST + 1), self.users) - 1, LONGEST)
        chosen = self._walk(generator, self._driving(catalogue), catalogue.popularity, taste, lengths)
        chosen, user = _topped_up(generator, chosen, lengths, taste @ catalogue.behavior.T)
        return Choices(user=user, item=chosen, taste=taste)

    def _driving(self, catalogue: Catalogue) -> np.ndarray:
        """The vectors that choices follow: the true ones, noisier the rarer the item."""
        count = catalogue.popularity * self.users * self.mean_length
        share = np.minimum(1.0, self.tail_noise / np.sqrt(1 + count))[:, None]
        noise = _unit(self._generator("tail").normal(size=catalogue.behavior.shape))
        return _unit((1 - share) * catalogue.behavior + share * noise)

    def _walk(
        self,
        generator: np.random.Generator,
        vectors: np.ndarray,
        popularity: np.ndarray,
        taste: np.ndarray,
        lengths: np.ndarray,
    ) -> np.ndarray:
        """Items by (user, step), int64 ``[users, longest]``, -1 behind a user's length."""
        users, longest = len(taste), int(lengths.max())
        chosen = np.full((users, longest), -1)
        seen = np.zeros((users, len(vectors)), dtype=bool)
        state = np.zeros_like(taste)
        for step in range(longest):
            active = np.flatnonzero(lengths > step)
            wish = _unit(taste[active] + self.momentum * state[active])
            score = self.preference * wish @ vectors.T + np.log(popularity)
            score += generator.gumbel(size=score.shape)  # the largest is then a draw from the softmax
            score[seen[active]] = -np.inf
            item = score.argmax(axis=1)
            chosen[active, step] = item
            seen[active, item] = True
            state[active] = MEMORY * state[active] + (1 - MEMORY) * vectors[item]
        return chosen

    def _interactions(self, catalogue: Catalogue, choices: Choices) -> pl.DataFrame:
        generator = self._generator("rows")
        rows = len(choices.user)
        affinity = (choices.taste[choices.user] * catalogue.behavior[choices.item]).sum(axis=1)
        liking = affinity / affinity.std() + generator.normal(size=rows)
        liked = liking > np.quantile(liking, 1 - LIKED)
        known = generator.random(rows) < LABELLED
        return pl.DataFrame(
            {
                "user_id": np.char.mod("U%05d", choices.user),
                "item_id": np.char.mod("I%05d", choices.item),
                "timestamp": START + DAY * _days(generator, choices.user, self.users),
                "position": _places(choices.user).astype(np.int32),
                "liked": liked,
            }
        ).with_columns(pl.when(pl.Series(known)).then("liked").alias("liked"))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _view(generator: np.random.Generator, latent: np.ndarray, dim: int) -> np.ndarray:
    """A modality: a random map of the shared latent and of a private one, with a little noise, float32."""
    private = generator.normal(size=(len(latent), PRIVATE))
    mixing = generator.normal(size=(LATENT + PRIVATE, dim)) / np.sqrt(LATENT + PRIVATE)
    noise = 0.1 * generator.normal(size=(len(latent), dim))
    return (np.hstack([latent, private]) @ mixing + noise).astype(np.float32)


def _tastes(generator: np.random.Generator, centers: np.ndarray, users: int) -> np.ndarray:
    """Each user likes two classes and something of their own."""
    liked = centers[generator.integers(len(centers), size=(users, 2))].sum(axis=1)
    own = generator.normal(size=liked.shape) / np.sqrt(liked.shape[1])
    return _unit(liked + own)


def _topped_up(
    generator: np.random.Generator, chosen: np.ndarray, lengths: np.ndarray, affinity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gives items below `LEAST` the users who like them best and lack them, at a random place.

    Returns:
        Items and users of all rows, by user, oldest first.
    """
    user = np.repeat(np.arange(len(lengths)), lengths)
    item = chosen[chosen >= 0]
    missing = LEAST - np.bincount(item, minlength=affinity.shape[1])
    rare = np.flatnonzero(missing > 0)
    affinity = affinity.copy()
    affinity[user, item] = -np.inf
    best = np.argsort(-affinity[:, rare], axis=0)[:LEAST]  # [LEAST, rare]
    place, column = np.nonzero(np.arange(LEAST)[:, None] < missing[rare])
    moment = np.concatenate([_places(user) + 0.5, generator.random(len(column)) * LEAST])
    user = np.concatenate([user, best[place, column]])
    item = np.concatenate([item, rare[column]])
    order = np.lexsort((moment, user))
    return item[order], user[order]


def _places(user: np.ndarray) -> np.ndarray:
    """Place of each row in its user's sequence, int64; ``user`` ascends."""
    return np.arange(len(user)) - np.searchsorted(user, user)


def _days(generator: np.random.Generator, user: np.ndarray, users: int) -> np.ndarray:
    """Day of each row, ascending within a user, int64: users come and go at any time."""
    begin = generator.random(users) * 0.6
    end = begin + (1 - begin) * generator.random(users)
    moment = generator.random(len(user))
    moment = moment[np.lexsort((moment, user))]
    return (DAYS * (begin[user] + (end - begin)[user] * moment)).astype(np.int64)


def _item_frame(catalogue: Catalogue, generator: np.random.Generator) -> pl.DataFrame:
    """Titles, brands, category paths and prices that follow the class, so that neighbors agree."""
    group = catalogue.group
    brand = 3 * group + generator.integers(3, size=len(group))
    price = np.exp(1.5 + generator.normal(size=group.max() + 1))[group] * np.exp(
        0.2 * generator.normal(size=len(group))
    )
    frame = pl.DataFrame(
        {
            "number": np.arange(len(group)),
            "class": group,
            "department": group % 6,
            "brand_number": brand,
            "kind": generator.integers(40, size=len(group)),
            "price": price.round(2),
        }
    )
    return frame.select(
        pl.format("I{}", pl.col("number").cast(pl.String).str.zfill(5)).alias("item_id"),
        pl.format("Product {} of brand {}, kind {}", "class", "brand_number", "kind").alias("title"),
        pl.format("Brand {}", "brand_number").alias("brand"),
        pl.concat_list(pl.format("Department {}", "department"), pl.format("Class {}", "class")).alias("categories"),
        "price",
        "class",
    )
