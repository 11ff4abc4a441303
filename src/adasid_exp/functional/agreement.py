"""Do items that share a code belong together? Exact shares of pairs, counted by groups and sparse matrices.

``codes`` are integers ``[items, columns]``; ``PAD`` marks a column that an item does not use. A pair of items counts
in a column if both use it. What a share is compared with is the share among all pairs of that column's users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from adasid_exp.types import PAD

CHUNK = 1024
"""Items whose co-purchases are held at once."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often two items agree, by column.

    Attributes:
        rate: among pairs with equal code, float64 ``[columns]``; NaN where no two items share a code.
        base: among all pairs of items that use the column; NaN where there is none.
    """

    rate: np.ndarray
    base: np.ndarray

    @property
    def lift(self) -> np.ndarray:
        """``rate / base``: 1 says that the code tells nothing; NaN where no pair agrees at all."""
        return _share(self.rate, self.base)


def label_agreement(codes: np.ndarray, labels: np.ndarray) -> Agreement:
    """Whether items carry the same label.

    Args:
        codes: ``[items, columns]``.
        labels: int64 ``[items]``, from 0; -1 unknown: the item is left out.
    """
    known = labels >= 0
    counts = np.asarray([_label_pairs(column[known], labels[known]) for column in codes.T], dtype=np.float64)
    same, shared, agreeing, pairs = counts.reshape(-1, 4).T
    return Agreement(rate=_share(same, shared), base=_share(agreeing, pairs))


def copurchase_agreement(codes: np.ndarray, user: np.ndarray, item: np.ndarray) -> Agreement:
    """Whether at least one user has both items.

    Args:
        codes: ``[items, columns]``.
        user, item: one interaction an entry, int64 ``[rows]``; repetitions count once.
    """
    items, columns = codes.shape
    seen = csr_array((np.ones(len(user), np.int32), (user, item)), shape=(int(user.max(initial=0)) + 1, items))
    by_item = seen.T.tocsr()
    same, together = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    for start in range(0, items, CHUNK):
        met = (by_item[start : start + CHUNK] @ seen).tocoo()
        first, second = met.coords[0] + start, met.coords[1]
        once = second > first
        first, second = first[once], second[once]
        for column, code in enumerate(codes.T):
            left, right = code[first], code[second]
            used = (left != PAD) & (right != PAD)
            together[column] += np.count_nonzero(used)
            same[column] += np.count_nonzero(used & (left == right))
    used = [column[column != PAD] for column in codes.T]
    shared = np.asarray([_pairs(np.bincount(column)) for column in used], dtype=np.float64)
    pairs = np.asarray([_pairs(np.asarray([len(column)])) for column in used], dtype=np.float64)
    return Agreement(rate=_share(same, shared), base=_share(together, pairs))


def _label_pairs(codes: np.ndarray, labels: np.ndarray) -> tuple[int, int, int, int]:
    """Pairs that share code and label, share the code, share the label, and all, of the items that use the column."""
    used = codes != PAD
    codes, labels = codes[used].astype(np.int64), labels[used]
    both = np.unique(codes * (int(labels.max(initial=0)) + 1) + labels, return_counts=True)[1]
    return _pairs(both), _pairs(np.bincount(codes)), _pairs(np.bincount(labels)), _pairs(np.asarray([len(codes)]))


def _pairs(sizes: np.ndarray) -> int:
    """Pairs within groups of these sizes."""
    sizes = sizes.astype(np.int64)
    return int((sizes * (sizes - 1) // 2).sum())


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=np.asarray(whole) > 0)
