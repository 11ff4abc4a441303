"""Histories as windows of one flat array: nothing is stored padded, a batch is padded when it is gathered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.artifacts.offsets import lengths_to_offsets


@dataclass(frozen=True, kw_only=True)
class Visible:
    """The rows of a data set that a history may show.

    Attributes:
        items: of the visible rows, by (user, position), int32 ``[visible]``.
        before: visible rows before each row of the data set, int64 ``[rows + 1]``.
        first: index in ``items`` of each user's first, int64 ``[users + 1]``.
    """

    items: np.ndarray
    before: np.ndarray
    first: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Stretches of `Visible.items`.

    Attributes:
        start: index of the first item, int64 ``[windows]``.
        length: items covered, int64 ``[windows]``.
    """

    start: np.ndarray
    length: np.ndarray


def visible_rows(dataset: Dataset, mask: np.ndarray) -> Visible:
    """The rows where ``mask`` (bool ``[rows]``) holds."""
    before = lengths_to_offsets(mask)
    return Visible(items=dataset.item[mask].astype(np.int32), before=before, first=before[dataset.offsets])


def windows_before(dataset: Dataset, visible: Visible, rows: np.ndarray, history: int) -> Windows:
    """For each row of ``rows`` the user's last ``history`` visible rows before it; may be empty."""
    stop = visible.before[rows]
    start = np.maximum(visible.first[dataset.user[rows]], stop - history)
    return Windows(start=start, length=stop - start)


class WindowTable:
    """Windows on a device.

    Args:
        items: the flat array, int32 ``[visible]``.
        windows: stretches of it.
        device: holds both.
    """

    def __init__(self, *, items: np.ndarray, windows: Windows, device: torch.device) -> None:
        self._lengths = windows.length  # on the host: a batch's width must not wait for the device
        widest = int(windows.length.max(initial=0))
        padded = np.concatenate([items, np.zeros(widest + 2, dtype=np.int32)])
        self._items = torch.from_numpy(padded).to(device)
        self._start = torch.from_numpy(windows.start).to(device)
        self._length = torch.from_numpy(windows.length).to(device)

    def __len__(self) -> int:
        return len(self._lengths)

    def take(self, rows: np.ndarray, index: Tensor, extra: int) -> tuple[Tensor, Tensor, Tensor]:
        """Windows as wide as the longest of them (at least 1), with ``extra`` items beyond.

        Args:
            rows: numbers of the windows, int64 ``[rows]``; ``index`` is the same on the device.
            extra: columns after the width, for targets.

        Returns:
            Items int64 ``[rows, width + extra]`` (not masked), whether a step is valid bool
            ``[rows, width]``, lengths int64 ``[rows]``.
        """
        width = max(1, int(self._lengths[rows].max(initial=0)))
        step = torch.arange(width + extra, device=index.device)
        length = self._length.index_select(0, index)
        grid = self._start.index_select(0, index)[:, None] + step
        items = self._items.index_select(0, grid.view(-1)).view(grid.shape).long()
        return items, step[:width] < length[:, None], length
