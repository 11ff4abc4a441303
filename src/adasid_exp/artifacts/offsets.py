"""Where the groups of ragged arrays begin."""

from __future__ import annotations

import numpy as np


def lengths_to_offsets(lengths: np.ndarray) -> np.ndarray:
    """Running sum from 0, int64 ``[groups + 1]``; of a mask: how many hold before each row, and in all."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
