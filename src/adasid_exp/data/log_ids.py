"""Raw ids of logs, text or int64: numbered, sorted, and hashed the same everywhere and for ever."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow.compute as pc

ODD = np.uint64(0x9E3779B97F4A7C15)
ROUNDS = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
LAST_SHIFT = np.uint64(31)
BLOCK = 1 << 14
"""Ids that are mixed at once: they stay in the processor's nearest cache."""


def encode(ids: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Distinct ids in order of appearance, and the place of each row's id among them, int32 ``[rows]``."""
    table = pc.dictionary_encode(ids.to_arrow(compat_level=pl.CompatLevel.oldest()))
    return pl.Series(ids.name, table.dictionary, dtype=ids.dtype), table.indices.to_numpy()


def encode_sorted(ids: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Distinct ids, sorted (text by bytes), and the place of each row's id among them, int32 ``[rows]``."""
    distinct, code = encode(ids)
    order = distinct.arg_sort().to_numpy()
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return distinct.gather(order), place.take(code)


def hash_ids(ids: pl.Series) -> np.ndarray:
    """A 64-bit hash of each id, uint64 ``[rows]``: of the number, or of the bytes of the text (UTF-8).

    Eight bytes at a time through the finalizer of splitmix64 (Steele et al. 2014). Written out here because the
    hash decides in which file a user lies: Python's differs between processes, polars' between versions.
    """
    return mixed(ids.to_numpy().view(np.uint64)) if ids.dtype == pl.Int64 else _hash_text(ids)


def mixed(state: np.ndarray) -> np.ndarray:
    """Splitmix64 of each number, uint64."""
    out = np.empty_like(state)
    shifted = np.empty(min(BLOCK, len(state)), dtype=np.uint64)
    for first in range(0, len(state), BLOCK):
        here = out[first : first + BLOCK]
        np.add(state[first : first + BLOCK], ODD, out=here)
        for shift, factor in ROUNDS:
            moved = np.right_shift(here, shift, out=shifted[: len(here)])
            here ^= moved
            here *= factor
        here ^= np.right_shift(here, LAST_SHIFT, out=shifted[: len(here)])
    return out


def _hash_text(ids: pl.Series) -> np.ndarray:
    arrow = ids.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = arrow.buffers()
    start = np.frombuffer(offsets, dtype=np.int64)[arrow.offset : arrow.offset + len(ids) + 1]
    length = np.diff(start)
    text = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8)
    padded = np.concatenate([text, np.zeros(8, np.uint8)])  # so that eight bytes follow every byte
    words = np.lib.stride_tricks.sliding_window_view(padded, 8)
    state = mixed(length.view(np.uint64))
    for word in range(-(-int(length.max(initial=0)) // 8)):
        left = np.flatnonzero(length > 8 * word)
        bytes_left = np.minimum(length[left] - 8 * word, 8)
        value = words[start[left] + 8 * word].copy().view("<u8")[:, 0]
        value &= np.uint64(0xFFFFFFFFFFFFFFFF) >> (8 * (8 - bytes_left)).astype(np.uint64)
        state[left] = mixed(state[left] ^ value)
    return state
