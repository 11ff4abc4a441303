"""Partial SIDs over unordered slots: of each, the existing SIDs that agree with it (spec section 11)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adasid_exp.functional.ragged import expanded


@dataclass(frozen=True, kw_only=True)
class Front:
    """Partial SIDs of several users, sorted by user, each with its candidates.

    Attributes:
        user: whose it is, int64 ``[partials]``.
        score: its log-probability, float32 ``[partials]``.
        owner: the partial SID that each candidate agrees with, int64 ``[candidates]``.
        row: the candidate, a row of the distinct SIDs, int64 ``[candidates]``.
    """

    user: Tensor
    score: Tensor
    owner: Tensor
    row: Tensor


class SidLists(nn.Module):
    """Candidates of partial SIDs as lists of members, and what they leave open.

    A list says what the intersection of the inverted bitsets ``inv[l][c_l]`` of the codes fixed says, and is
    shorter: the partial SIDs of a user part the catalogue, so all their lists together have no more entries
    than it has SIDs, where bitsets would have one bit per SID for each of them.

    Args:
        classes: distinct SIDs, int64 ``[distinct, slots]``, PAD as a class of its own.
        count: classes of a slot.
    """

    classes: Tensor

    def __init__(self, *, classes: Tensor, count: int) -> None:
        super().__init__()
        self.count = count
        self.register_buffer("classes", classes, persistent=False)

    def root(self, users: int) -> Front:
        """Nothing fixed: every SID is a candidate of every user."""
        user = torch.arange(users, device=self.classes.device)
        return Front(
            user=user,
            score=torch.zeros(users, device=user.device),
            owner=user.repeat_interleave(len(self.classes)),
            row=torch.arange(len(self.classes), device=user.device).repeat(users),
        )

    def agreement(self, front: Front) -> tuple[Tensor, Tensor]:
        """One candidate of each partial SID ``[partials]``, and the slots in which all agree ``[partials, slots]``."""
        sample = torch.zeros_like(front.user)
        sample[front.owner] = front.row
        differs = self.classes[front.row] != self.classes[sample[front.owner]]
        open_slots = torch.zeros(len(sample), differs.shape[1], device=sample.device)
        return sample, open_slots.index_add_(0, front.owner, differs.float()) == 0

    def allowed(self, partials: int, owner: Tensor, row: Tensor) -> Tensor:
        """Codes that some candidate has, bool ``[partials, slots, classes]``."""
        slots = self.classes.shape[1]
        found = torch.zeros(partials * slots * self.count, dtype=torch.bool, device=row.device)
        place = owner[:, None] * slots + torch.arange(slots, device=row.device)
        found[place * self.count + self.classes[row]] = True
        return found.view(partials, slots, self.count)


def kept_front(front: Front, many: Tensor, child: Tensor, score: Tensor, kept: Tensor) -> Front:
    """The front after each partial SID was replaced by its children and some of these were kept.

    Args:
        front: before.
        many: children of each partial SID, ``[partials]``.
        child: which child of its owner each candidate goes to, ``[candidates]``.
        score: of all children, ``[children]``.
        kept: the children to keep, sorted by user.
    """
    parent, _ = expanded(many)
    place = torch.full_like(parent, -1)
    place[kept] = torch.arange(len(kept), device=kept.device)
    owner = place[(many.cumsum(0) - many)[front.owner] + child]
    stays = owner >= 0
    return Front(user=front.user[parent[kept]], score=score[kept], owner=owner[stays], row=front.row[stays])
