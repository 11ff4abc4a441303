"""Partial SIDs over unordered slots: of each, the existing SIDs that agree with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adasid_exp.functional.ragged import expanded


@dataclass(frozen=True, kw_only=True)
class Front:
    """Partial SIDs of several users, sorted by user, and the groups of SIDs that agree with them.

    Users who fixed the same codes on the same way share a group, so that its SIDs are looked at once for all.

    Attributes:
        user: whose it is, int64 ``[partials]``.
        score: its log-probability, float32 ``[partials]``.
        group: the SIDs that agree with it, int64 ``[partials]``.
        size: how many SIDs each group has, int64 ``[groups]``.
        row: the SIDs of all groups, one group after the other, rows of the distinct SIDs, int64 ``[members]``.
    """

    user: Tensor
    score: Tensor
    group: Tensor
    size: Tensor
    row: Tensor


class SidLists(nn.Module):
    """Candidates of partial SIDs as lists of members, and what they leave open.

    A list says what the intersection of the inverted bitsets ``inv[l][c_l]`` of the codes fixed says, and is
    shorter: the groups of a user part the catalogue, so all her lists together have no more entries than it
    has SIDs, where bitsets would have one bit per SID for each partial SID.

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
        row = torch.arange(len(self.classes), device=user.device)
        score = torch.zeros(users, device=user.device)
        return Front(user=user, score=score, group=torch.zeros_like(user), size=row.new_tensor([len(row)]), row=row)

    def agreement(self, front: Front) -> tuple[Tensor, Tensor]:
        """The first SID of each group, as classes, and the slots in which all agree with it; ``[groups, slots]``."""
        first = self.classes[front.row[front.size.cumsum(0) - front.size]]
        owner, _ = expanded(front.size)
        differs = (self.classes[front.row] != first[owner]).float()
        return first, torch.zeros(first.shape, device=first.device).index_add_(0, owner, differs) == 0

    def allowed(self, front: Front) -> Tensor:
        """Codes that some SID of each group has, bool ``[groups, slots, classes]``."""
        slots = self.classes.shape[1]
        owner, _ = expanded(front.size)
        place = owner[:, None] * slots + torch.arange(slots, device=owner.device)
        found = torch.zeros(len(front.size) * slots * self.count, dtype=torch.bool, device=owner.device)
        found[place * self.count + self.classes[front.row]] = True
        return found.view(-1, slots, self.count)

    def narrowed(self, front: Front, user: Tensor, score: Tensor, group: Tensor, slot: Tensor, code: Tensor) -> Front:
        """The front of partial SIDs that each fix one more slot.

        Args:
            front: before.
            user: whose each is, sorted, ``[partials]``.
            score: of each.
            group: that each comes from.
            slot: that it fixes.
            code: to this class, which some SID of the group has.
        """
        keys, new_group = torch.unique((group * self.classes.shape[1] + slot) * self.count + code, return_inverse=True)
        branches, branch = torch.unique_consecutive(keys // self.count, return_inverse=True)
        old, fixed = branches // self.classes.shape[1], branches % self.classes.shape[1]
        owner, place = expanded(front.size[old])
        row = front.row[(front.size.cumsum(0) - front.size)[old[owner]] + place]
        group_of = torch.full((len(branches), self.count), -1, device=keys.device)
        group_of[branch, keys % self.count] = torch.arange(len(keys), device=keys.device)
        member_of = group_of[owner, self.classes[row, fixed[owner]]]
        row, member_of = row[member_of >= 0], member_of[member_of >= 0]
        size = torch.bincount(member_of, minlength=len(keys))
        return Front(user=user, score=score, group=new_group, size=size, row=row[member_of.argsort(stable=True)])
