"""Exact click metrics: AUC and GAUC with average ranks for ties, by sorting positives and negatives once.

A positive beats the negatives that a binary search finds before it and ties with those between the search's
left and right ends. Within groups (users, strata) rows are sorted by the integer ``(group | score)``, so
that every group is one run of a single sort. All counts are integers: the order of rows does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_KEY_BITS = 63  # an int64 without its sign


@dataclass(frozen=True, kw_only=True)
class GroupWins:
    """Mann-Whitney counts of each group: all that AUC and GAUC need.

    Attributes:
        doubled_wins: 2 x (pairs whose positive scores higher) + (pairs that tie), int64 ``[groups]``.
        positives: rows with label 1, int64 ``[groups]``.
        negatives: rows with label 0, int64 ``[groups]``.
    """

    doubled_wins: Tensor
    positives: Tensor
    negatives: Tensor

    @property
    def rows(self) -> Tensor:
        """Rows of each group, int64 ``[groups]``."""
        return self.positives + self.negatives

    @property
    def defined(self) -> Tensor:
        """Whether the group holds both classes, bool ``[groups]``."""
        return (self.positives > 0) & (self.negatives > 0)

    @property
    def auc(self) -> Tensor:
        """AUC of each group, float64 ``[groups]``; nan where one class is missing."""
        pairs = self.positives.double() * self.negatives.double()
        return self.doubled_wins.double() / (2 * pairs)


@dataclass(frozen=True, kw_only=True)
class ClickSummary:
    """How well scores rank liked rows above others; fields are 0-d float64 tensors, nan where undefined.

    Attributes:
        auc: over all pairs of rows.
        gauc: mean of the users' AUC, weighted by their rows (DIN, arXiv 1706.06978, equation 12).
        gauc_plain: unweighted mean of the users' AUC.
        users_kept: users with both classes, over whom both GAUCs are taken.
        users_total: users with a row.
        rows_kept: share of the rows that belong to kept users.
    """

    auc: Tensor
    gauc: Tensor
    gauc_plain: Tensor
    users_kept: Tensor
    users_total: Tensor
    rows_kept: Tensor


def auc(score: Tensor, label: Tensor) -> Tensor:
    """Area under the ROC curve of ``[rows]`` scores and 0/1 labels, 0-d float64; nan with one class.

    Equals the Mann-Whitney statistic with average ranks for ties. Raises ValueError for unequal shapes,
    labels other than 0 and 1, and nan scores.
    """
    return wins_by_group(score, label, None, 1).auc[0]


def click_summary(user: Tensor, score: Tensor, label: Tensor) -> ClickSummary:
    """AUC and both GAUCs of rows ``[rows]``; ``user`` holds dense indices. Raises as ``auc`` does.

    Users with one class have no AUC: they are left out of GAUC, and counted.
    """
    users = int(user.max()) + 1 if user.numel() else 0
    return summarize(auc(score, label), wins_by_group(score, label, user, users))


def summarize(overall: Tensor, by_user: GroupWins) -> ClickSummary:
    """The summary that an overall AUC and the users' counts amount to."""
    kept, rows = by_user.defined, by_user.rows
    area, weight = by_user.auc[kept], rows[kept].double()
    return ClickSummary(
        auc=overall,
        gauc=(area * weight).sum() / weight.sum(),
        gauc_plain=area.mean(),
        users_kept=kept.sum().double(),
        users_total=(rows > 0).sum().double(),
        rows_kept=weight.sum() / rows.sum(),
    )


def wins_by_group(score: Tensor, label: Tensor, group: Tensor | None, groups: int) -> GroupWins:
    """Mann-Whitney counts of rows ``[rows]`` within each of ``groups`` groups (None: one group of all rows).

    The same call gives AUC by user (for GAUC) and by stratum (head, tail). Raises ValueError for unequal
    shapes, labels other than 0 and 1, nan scores, and groups outside ``0 .. groups-1``.
    """
    _check(score, label, group, groups)
    liked = label.bool()
    key = _native(score) if group is None or not len(group) else _packed(score, group, groups)
    positive, negative = _sorted(key[liked]), _sorted(key[~liked])
    positives = _rows_by_group(positive, group, liked, groups)
    negatives = _rows_by_group(negative, group, ~liked, groups)
    if len(positive) <= len(negative):  # fewer searches
        doubled = _doubled_wins(positive, negative, positives, negatives)
    else:
        doubled = 2 * positives * negatives - _doubled_wins(negative, positive, negatives, positives)
    return GroupWins(doubled_wins=doubled, positives=positives, negatives=negatives)


def _check(score: Tensor, label: Tensor, group: Tensor | None, groups: int) -> None:
    shapes = {tuple(t.shape) for t in (score, label, group) if t is not None}
    if len(shapes) != 1 or score.dim() != 1:
        raise ValueError(f"click metrics take vectors of equal length, not {sorted(shapes)}")
    if not score.numel():
        return
    if bool(score.isnan().any()):
        raise ValueError("click metrics take no nan score")
    if label.dtype != torch.bool and bool(((label != 0) & (label != 1)).any()):
        raise ValueError("click metrics take labels 0 and 1 only")
    if group is not None and not 0 <= int(group.min()) <= int(group.max()) < groups:
        raise ValueError(f"groups must lie in 0..{groups - 1}, not {int(group.min())}..{int(group.max())}")


def _doubled_wins(needles: Tensor, haystack: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """2 x wins + ties of sorted ``needles`` over sorted ``haystack`` within each group, int64 ``[groups]``.

    ``rows`` and ``others`` count the needles and the haystack's entries of each group.
    """
    below = torch.searchsorted(haystack, needles)
    below += torch.searchsorted(haystack, needles, right=True)
    ends = torch.cat([rows.new_zeros(1), rows.cumsum(0)])
    sums = torch.cat([below.new_zeros(1), below.cumsum(0)])[ends].diff()
    return sums - 2 * rows * (others.cumsum(0) - others)  # the search also counted all earlier groups


def _sorted(key: Tensor) -> Tensor:
    """The key in ascending order; on the CPU by numpy's vectorized sort, in place."""
    if key.device.type != "cpu":
        return key.sort().values
    key.numpy().sort()
    return key


def _rows_by_group(key: Tensor, group: Tensor | None, chosen: Tensor, groups: int) -> Tensor:
    if group is None:
        return torch.tensor([len(key)], device=key.device)
    return torch.bincount(group[chosen].to(torch.int64), minlength=groups)


def _native(score: Tensor) -> Tensor:
    """The scores in a floating-point type that both numpy and torch sort."""
    return score.detach() if score.dtype == torch.float64 else score.detach().float()


def _packed(score: Tensor, group: Tensor, groups: int) -> Tensor:
    """One int64 a row that sorts by group, then by score."""
    room = _KEY_BITS - (groups - 1).bit_length()
    key, bits = _ordered(_native(score))
    if bits > room:
        key, bits = _dense_rank(score), len(score).bit_length()
    if bits > room:
        raise ValueError(f"{groups} groups and {len(score)} rows do not fit into one 64-bit key")
    return (group.to(torch.int64) << bits).add_(key)


def _ordered(score: Tensor) -> tuple[Tensor, int]:
    """int64 ``[rows]`` in the order of the scores, equal exactly where they are, from 0, and its bits."""
    if score.dtype == torch.float64 and bool((score.float() == score).all()):
        score = score.float()  # a float32 that was widened: half the bits say it all
    integer = torch.int64 if score.dtype == torch.float64 else torch.int32
    limit = torch.iinfo(integer).max
    bits = score.contiguous().view(integer)
    negative = bits >> (torch.iinfo(integer).bits - 1)  # 0 or -1
    signed = ((bits & limit) ^ negative).sub_(negative)  # two's complement; -0.0 and 0.0 become equal
    return signed.to(torch.int64).add_(limit), torch.iinfo(integer).bits


def _dense_rank(score: Tensor) -> Tensor:
    """The rank of each score among the distinct scores, int64 ``[rows]``."""
    order = torch.from_numpy(score.numpy().argsort()) if score.device.type == "cpu" else score.argsort()
    ascending = score[order]
    step = torch.zeros_like(order)
    step[1:] = ascending[1:] != ascending[:-1]
    rank = torch.empty_like(order)
    rank[order] = step.cumsum(0)
    return rank
