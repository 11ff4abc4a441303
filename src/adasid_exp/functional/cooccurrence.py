"""Which items people take together: neighbors of items within the histories of a training part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """Some items for each item.

    Attributes:
        starts: where each item's begin, int64 ``[items + 1]``.
        neighbors: int64 ``[pairs]``.
    """

    starts: Tensor
    neighbors: Tensor


def cosine(items: Tensor, offsets: Tensor, size: int) -> csr_array:
    """Cosine of every two items' sets of users, sparse ``[size, size]`` without the diagonal, columns sorted.

    Args:
        items: item indices of all users, one user after the other, int64 ``[total]``, on the CPU.
        offsets: where each user's begin, int64 ``[users + 1]``.
        size: of the catalogue.
    """
    ones = np.ones(len(items), dtype=np.float32)
    # A copy: removing duplicates moves indices within the arrays it is given.
    seen = csr_array((ones, items.numpy(), offsets.numpy()), shape=(len(offsets) - 1, size), copy=True)
    seen.sum_duplicates()
    seen.data[:] = 1.0  # an item met twice is held once
    together = csr_array(seen.T @ seen)
    lengths = diags_array(1 / np.sqrt(np.maximum(together.diagonal(), 1)))
    similar = csr_array(lengths @ together @ lengths)
    similar.setdiag(0)
    similar.eliminate_zeros()
    similar.sort_indices()
    return similar


def nearest_items(similar: csr_array, top: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ``top`` most similar items of each item (of equal ones the earlier), as pairs (item, neighbor)."""
    row = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
    order = np.lexsort((similar.indices, -similar.data, row))
    place = np.arange(len(order)) - similar.indptr[row]  # sorting keeps rows where they were
    kept = order[place < top]
    return row[kept], similar.indices[kept].astype(np.int64)


def preceding_items(
    items: Tensor, offsets: Tensor, similar: csr_array, history: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each item of a history with the most similar of the ``history`` items before it, as pairs (item, preceding).

    Of equally similar ones the most recent; an item with no similar one before it gives no pair. Arguments as in
    `cosine`.
    """
    sequence, size = items.numpy(), similar.shape[0]
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets.numpy()))
    keys = np.repeat(np.arange(size), np.diff(similar.indptr)) * size + similar.indices
    best, chosen = np.zeros(len(sequence), dtype=np.float32), np.full(len(sequence), -1)
    later = np.arange(len(sequence))
    for lag in range(1, history + 1):
        later = later[later >= lag]
        later = later[user[later] == user[later - lag]]  # who has no item at this lag has none at a longer one
        if not len(later):
            break
        found = _looked_up(keys, similar.data, sequence[later] * size + sequence[later - lag])
        better = found > best[later]
        best[later[better]], chosen[later[better]] = found[better], sequence[later - lag][better]
    has = chosen >= 0
    return sequence[has], chosen[has]


def positive_pairs(items: Tensor, offsets: Tensor, *, size: int, top: int, history: int) -> Neighbors:
    """Items whose embeddings should be alike (QARM, OneRec): item to item and user to item.

    The ``top`` items of greatest `cosine`, and what `preceding_items` pairs; each pair once.

    Args:
        items: item indices of all users, oldest first, one user after the other, int64 ``[total]``, on the CPU.
        offsets: where each user's begin, int64 ``[users + 1]``.
        size: of the catalogue.
        top: nearest items taken of each.
        history: how far back a preceding item is looked for.
    """
    similar = cosine(items, offsets, size)
    pairs = zip(nearest_items(similar, top), preceding_items(items, offsets, similar, history), strict=True)
    anchor, positive = (np.concatenate(parts) for parts in pairs)
    keys = np.unique(anchor * size + positive)
    starts = np.searchsorted(keys, np.arange(size + 1) * size)
    return Neighbors(starts=torch.from_numpy(starts).long(), neighbors=torch.from_numpy(keys % size).long())


def draw_neighbors(neighbors: Neighbors, index: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """One neighbor of each item ``index [rows]``, every one as likely; the item itself where it has none.

    Args:
        neighbors: of all items.
        index: int64 ``[rows]``.
        draws: uniform numbers in [0, 1), ``[rows]``.

    Returns:
        The drawn items, int64 ``[rows]``, and whether they are neighbors, bool ``[rows]``.
    """
    first = neighbors.starts[index]
    many = neighbors.starts[index + 1] - first
    place = (draws * many).long().clamp(max=(many - 1).clamp(min=0))
    known = many > 0
    if neighbors.neighbors.numel() == 0:
        return index, known
    drawn = neighbors.neighbors[torch.where(known, first + place, 0)]
    return torch.where(known, drawn, index), known


def _looked_up(keys: NDArray[np.int64], values: NDArray[np.float32], wanted: NDArray[np.int64]) -> NDArray[np.float32]:
    """``values`` of the sorted ``keys`` at ``wanted``, 0 for a key that is not there."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.float32)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0.0).astype(np.float32)
