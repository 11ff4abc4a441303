"""The nouns that every floor shares.

Dimension words used in docstrings and comments:

    items    rows of the catalogue, or of a batch of it      users   rows of a batch of sequences
    rows     impressions of a batch                          steps   positions of a history
    slots    positions of a SID                              codes   entries of one codebook (K)
    dim      width of a vector

Items are dense indices ``0 .. items-1`` everywhere; histories are padded on the right with 0 and carry a
``length``, so no index is reserved. A SID slot that is not used holds ``PAD``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # commands that need no tensor answer before torch could be imported
    import torch
    from torch import Tensor

PAD = -1
"""The code of a SID slot that an item does not use."""


@dataclass(frozen=True, kw_only=True)
class TensorRecord:
    """Base of the frozen batch classes: moves every tensor of a record to a device.

    Lightning moves any batch that has ``to``; frozen dataclasses have none of their own.
    """

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same record with its tensors (also those inside mappings) on ``device``."""

        def move(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: move(entry) for key, entry in value.items()}
            return value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value

        return replace(self, **{f.name: move(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class ItemBatch(TensorRecord):
    """Items as a tokenizer sees them.

    Attributes:
        index: catalogue index, int64 ``[items]``.
        features: raw (not standardised) embedding of each modality, float32 ``[items, dim]`` by modality name.
        count: interactions in the task's training part, int64 ``[items]``.
        shares: items of every rank's batch of the same step, where a loader says so.
    """

    index: Tensor
    features: Mapping[str, Tensor]
    count: Tensor
    shares: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class SequenceBatch(TensorRecord):
    """Histories and what follows them.

    Attributes:
        user: user index, int64 ``[users]``.
        history: item indices, oldest first, padded on the right with 0, int64 ``[users, steps]``.
        length: valid steps of each row (at least 1), int64 ``[users]``.
        target: in training the item that follows each step, int64 ``[users, steps]`` (0 behind ``length``);
            in evaluation the held-out item, int64 ``[users]``.
    """

    user: Tensor
    history: Tensor
    length: Tensor
    target: Tensor


@dataclass(frozen=True, kw_only=True)
class ImpressionBatch(TensorRecord):
    """Impressions to be ranked.

    Attributes:
        user: user index, int64 ``[rows]``; of a user the training part lacks her index plus ``users``, so that
            metrics tell unknown users apart while models give them one row.
        item: item index, int64 ``[rows]``.
        history: the user's last items before the impression within the training part, int64 ``[rows, steps]``.
        length: valid steps, int64 ``[rows]``; may be 0.
        label: 1 liked, 0 not, float32 ``[rows]``.
    """

    user: Tensor
    item: Tensor
    history: Tensor
    length: Tensor
    label: Tensor


@dataclass(frozen=True, kw_only=True)
class SidTable(TensorRecord):
    """The SIDs of a whole catalogue, as downstream models take them.

    Attributes:
        codes: int64 ``[items, slots]`` with ``PAD`` in unused slots.
        weights: float32 ``[items, slots]``; 1 where a method has no weights, 0 at ``PAD``.
        sizes: codebook size of each slot.
        modalities: what each slot speaks of ("shared", "text", ..., "behavior").
        ordered: whether a slot refines the one before it (residual SIDs) or slots are parallel.
    """

    codes: Tensor
    weights: Tensor
    sizes: tuple[int, ...]
    modalities: tuple[str, ...]
    ordered: bool


@dataclass(frozen=True, kw_only=True)
class TargetRank(TensorRecord):
    """Where the held-out item stands among the whole catalogue.

    The item shares its score with ``tied - 1`` others, so it takes one of the ranks ``above+1 .. above+tied``.

    Attributes:
        above: items that score strictly higher, int64 ``[users]``.
        tied: items with exactly the target's score, itself included (at least 1), int64 ``[users]``.
        sid_above: distinct SIDs that score strictly higher (equals ``above`` for models without SIDs).
        sid_tied: distinct SIDs with the target's score, its own included.
    """

    above: Tensor
    tied: Tensor
    sid_above: Tensor
    sid_tied: Tensor


class UserError(Exception):
    """A fault a person can mend: its message is one line that says what, where and the way out."""
