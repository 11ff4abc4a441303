"""The generated world behind simulated logs: items, tastes and sessions as functions of numbers, not as tables.

Items belong to classes, and within a class to groups of eight that are taken together. Popularity within a class
follows Zipf's law; part of the catalogue appears while time goes on, and what is new is taken more often for a
while. A user has a lasting class and one that changes every few weeks. Whether an item that is shown is taken
depends on both, on the item's quality and on how the user feels about its group. Bots take anything, fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GROUP = 8
"""Items of a group."""
LATENT = 16
"""Width of the latent behind the modalities."""
DAY = 86_400
SCATTER = 1_000_000_007  # a prime, so that multiplying by it permutes the items
SPREAD, SPREAD_MASK = 0x9E3779B1, (1 << 40) - 1


@dataclass(frozen=True, kw_only=True)
class LogWorld:
    """Sizes and habits.

    Attributes:
        users, items, classes: sizes.
        days: from the first event to the last.
        zipf_exponent: of popularity within a class, not 1.
        new_items: share of the catalogue that appears in the course of time.
        session_length: mean events of a session.
        drift_days: after so many days a user's second class changes.
        bot_sessions: share of sessions that are a bot's, fifty times as long.
        shown: share of events that are impressions; the others are interactions without one.
        repeated: share of rows that are delivered twice.
        seed: of everything.
    """

    users: int
    items: int
    classes: int
    days: int
    zipf_exponent: float
    new_items: float
    session_length: float
    drift_days: int
    bot_sessions: float
    shown: float
    repeated: float
    seed: int

    @property
    def places(self) -> int:
        """Items of a class that can be drawn."""
        return self.items // self.classes

    def generator(self, purpose: str, number: int) -> np.random.Generator:
        """An independent stream for each part, so that parts can be made in any order."""
        return np.random.default_rng([self.seed, *purpose.encode(), number])

    def released(self, seconds: np.ndarray) -> np.ndarray:
        """Items of each class that have appeared ``seconds`` after the start, int64."""
        first = max(1, int(self.places * (1 - self.new_items)))
        return first + ((self.places - first) * (seconds / (self.days * DAY))).astype(np.int64)

    def item_at(self, group: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Row in the catalogue of the item at a place (0: the most popular at the start) of a class, int64."""
        return (place * self.classes + group) * SCATTER % self.items

    def place_of(self, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class and place of rows of the catalogue: the inverse of `item_at`."""
        place, group = np.divmod(item * pow(SCATTER, -1, self.items) % self.items, self.classes)
        return group, place

    def draw_places(self, generator: np.random.Generator, released: np.ndarray) -> np.ndarray:
        """Places by Zipf's law among those released: the inverse of its continuous distribution, int64."""
        power = 1 - self.zipf_exponent
        reach = (released + 1.0) ** power - 1
        place = (reach * generator.random(len(released)) + 1) ** (1 / power) - 1
        return np.minimum(place.astype(np.int64), released - 1)

    def lasting_class(self, user: np.ndarray) -> np.ndarray:
        """The class a user always likes, int64."""
        return (hashed(user, self.seed + 1) % np.uint64(self.classes)).astype(np.int64)

    def passing_class(self, user: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """The class a user likes these weeks, int64."""
        weeks = (seconds // (self.drift_days * DAY)).astype(np.int64)
        return (hashed(user * 4096 + weeks, self.seed + 2) % np.uint64(self.classes)).astype(np.int64)

    def quality(self, item: np.ndarray) -> np.ndarray:
        """How good an item is, uniform in [-1, 1)."""
        return uniform(item, self.seed + 3)

    def fondness(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """How a user feels about an item's group, uniform in [-1, 1)."""
        group, place = self.place_of(item)
        return uniform(user * 1_000_003 + group * self.places + place // GROUP, self.seed + 4)


def hashed(values: np.ndarray, seed: int) -> np.ndarray:
    """A hash of integers, uint64: one round of splitmix64."""
    state = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed * 0x632BE5AB + 1)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniform(values: np.ndarray, seed: int) -> np.ndarray:
    """A number in [-1, 1) that belongs to each integer, float64."""
    return (hashed(values, seed) >> np.uint64(11)) * (2.0 / (1 << 53)) - 1.0


def raw_id(number: np.ndarray) -> np.ndarray:
    """What files call a user or an item: a number of 40 bits without order, int64."""
    return (number * SPREAD + 12_345) & SPREAD_MASK
