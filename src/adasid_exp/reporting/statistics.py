"""How sure a figure is: spread over seeds, paired bootstraps over users of the difference of two methods.

A bootstrap draws as many users as there are, with replacement, and takes both methods' figures on one draw.
All resamples come from one seed; users are drawn in chunks that bound the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adasid_exp.functional.click import auc, wins_by_group

CHUNK = 4_000_000
"""Most numbers of a temporary array."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: of the runs.
        std: sample standard deviation (n - 1); None for a single run.
        runs: how many there are.
    """

    mean: float
    std: float | None
    runs: int


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How many resamples to draw, and what to make of them.

    Attributes:
        resamples: draws of users.
        level: of the interval, e.g. 0.95.
        seed: of the draws.
    """

    resamples: int
    level: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First method minus second.

    Attributes:
        value: the difference on all users.
        low, high: percentile interval of the resampled differences.
        p_value: two-sided: twice the share of resamples on zero's far side, never below 2 / (resamples + 1).
        users: users it rests on.
    """

    value: float
    low: float
    high: float
    p_value: float
    users: int


def mean_std(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of one figure's runs.

    Raises:
        ValueError: without a run.
    """
    if not len(values):
        raise ValueError("a spread needs at least one run")
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(mean=float(np.mean(values)), std=std, runs=len(values))


def difference_of_means(first: np.ndarray, second: np.ndarray, weight: np.ndarray | None, how: Bootstrap) -> Difference:
    """Bootstrap of the difference of two (weighted) means of per-user figures, each float ``[users]``.

    ``weight`` (None: all alike) belongs to the user, so a resample changes the mean's denominator too.
    """
    _alike(first=first, second=second, weight=weight)
    weight = np.ones(len(first)) if weight is None else weight.astype(np.float64)
    gain = (first.astype(np.float64) - second) * weight
    found = [gain[users].sum(1) / weight[users].sum(1) for users in _drawn_users(len(gain), len(gain), how)]
    return _summarized(gain.sum() / weight.sum(), np.concatenate(found), len(gain), how)


def difference_of_gauc(
    user: np.ndarray, label: np.ndarray, first: Sequence[np.ndarray], second: Sequence[np.ndarray], how: Bootstrap
) -> Difference:
    """Bootstrap of the difference of two methods' GAUC (weighted by rows) on the same rows, each ``[rows]``.

    ``first`` and ``second`` hold the scores of each seed; a user's AUC is the mean over them. Rests on the
    users with both classes, as GAUC does.
    """
    _alike(user=user, label=label, **_named(first=first, second=second))
    _, group = np.unique(user, return_inverse=True)
    areas = []
    for scores in (first, second):
        each = [wins_by_group(_tensor(s), _tensor(label), _tensor(group), int(group.max()) + 1) for s in scores]
        kept, rows = each[0].defined, each[0].rows[each[0].defined].numpy()
        areas.append(np.mean([wins.auc[kept].numpy() for wins in each], axis=0))
    return difference_of_means(areas[0], areas[1], rows, how)


@dataclass(frozen=True, kw_only=True)
class ResampledAuc:
    """A method's AUC, the mean over its seeds.

    Attributes:
        value: on all users.
        draws: on each resample, float64 ``[resamples]``; the same users for every method of the same rows.
        users: users drawn from.
    """

    value: float
    draws: np.ndarray
    users: int


def resampled_auc(user: np.ndarray, label: np.ndarray, scores: Sequence[np.ndarray], how: Bootstrap) -> ResampledAuc:
    """Bootstrap over users of the AUC over rows ``[rows]``, exact with ties; ``scores`` holds each seed's.

    A resample counts each row as often as its user was drawn.
    """
    _alike(user=user, label=label, **_named(scores=scores))
    names, group = np.unique(user, return_inverse=True)
    areas = [_weighted_auc(group, label, score) for score in scores]
    counts = (_times_drawn(users, len(names)) for users in _drawn_users(len(names), len(group), how))
    return ResampledAuc(
        value=float(np.mean([float(auc(_tensor(score), _tensor(label))) for score in scores])),
        draws=np.concatenate([np.mean([area(drawn) for area in areas], axis=0) for drawn in counts]),
        users=len(names),
    )


def difference_of_auc(first: ResampledAuc, second: ResampledAuc, how: Bootstrap) -> Difference:
    """Difference of two methods' AUC on the same rows, resampled alike."""
    return _summarized(first.value - second.value, first.draws - second.draws, first.users, how)


def _named(**methods: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Every seed's scores under a name that a complaint can use."""
    return {f"{name}[{seed}]": score for name, scores in methods.items() for seed, score in enumerate(scores)}


def _weighted_auc(group: np.ndarray, label: np.ndarray, score: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """AUC by how often each user counts, ``[draws, users] -> [draws]``; the rows are sorted once."""
    order = np.argsort(score, kind="stable")
    ascending = score[order]
    starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))  # of equal scores
    owner, positive = group[order], label[order].astype(np.float64)

    def area(counts: np.ndarray) -> np.ndarray:
        rows = counts[:, owner]  # [draws, rows]
        liked = np.add.reduceat(rows * positive, starts, axis=1)
        others = np.add.reduceat(rows, starts, axis=1) - liked
        wins = (liked * (np.cumsum(others, axis=1) - others / 2)).sum(1)
        with np.errstate(invalid="ignore"):  # a draw without both classes has no AUC
            return wins / (liked.sum(1) * others.sum(1))

    return area


def _drawn_users(users: int, width: int, how: Bootstrap) -> Iterator[np.ndarray]:
    """Chunks of draws, int ``[draws, users]``, small enough for arrays ``[draws, width]``."""
    random = np.random.default_rng(how.seed)
    chunk = max(1, CHUNK // max(1, width))
    for start in range(0, how.resamples, chunk):
        yield random.integers(0, users, (min(chunk, how.resamples - start), users))


def _times_drawn(users: np.ndarray, size: int) -> np.ndarray:
    """How often each of ``size`` users is in each row of ``users``, float64 ``[draws, size]``."""
    flat = users + size * np.arange(len(users))[:, None]
    return np.bincount(flat.ravel(), minlength=size * len(users)).reshape(len(users), size).astype(np.float64)


def _summarized(value: float, found: np.ndarray, users: int, how: Bootstrap) -> Difference:
    found = found[~np.isnan(found)]
    outside = (1 - how.level) / 2
    low, high = np.quantile(found, [outside, 1 - outside])
    tail = min((found <= 0).sum(), (found >= 0).sum())
    p_value = min(1.0, 2 * (tail + 1) / (len(found) + 1))
    return Difference(value=float(value), low=float(low), high=float(high), p_value=float(p_value), users=users)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values))  # a copy: columns read from disk are not writable


def _alike(**arrays: np.ndarray | None) -> None:
    shapes = {name: array.shape for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) != 1 or not all(len(shape) == 1 and shape[0] for shape in shapes.values()):
        raise ValueError(f"a bootstrap takes vectors of one length above 0, not {shapes}")
