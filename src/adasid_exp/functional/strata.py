"""Head and tail of a catalogue by popularity (paper section 4.4)."""

from __future__ import annotations

import numpy as np

TAIL, MIDDLE, HEAD = 0, 1, 2
"""Strata by number, in the order of popularity."""

NAMES = ("tail", "middle", "head")


def strata_of(count: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The stratum of each item, int8 ``[items]``: the ``floor(share * items)`` least and most popular.

    Items are sorted by count; those of equal count stand in an order drawn from ``seed``, so that the groups
    have equal size whatever the ties (a threshold would not give that on a 5-core catalogue).

    Raises:
        ValueError: for a share outside (0, 0.5].
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"head and tail are shares in (0, 0.5] of the catalogue, not {share}")
    size = int(share * len(count))
    tie = np.random.default_rng(seed).permutation(len(count))
    order = np.lexsort((tie, count))
    strata = np.full(len(count), MIDDLE, dtype=np.int8)
    strata[order[:size]] = TAIL
    strata[order[len(count) - size :]] = HEAD
    return strata
