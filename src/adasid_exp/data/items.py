"""Batches of the catalogue for the tokenizers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.data.loader import Shuffled, TableDataModule, TableLoader
from adasid_exp.types import ItemBatch


class ItemTable:
    """A catalogue on a device.

    Args:
        items: the whole catalogue.
    """

    def __init__(self, *, items: ItemBatch) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items.index)

    def take(self, rows: np.ndarray) -> ItemBatch:
        """The items ``rows``."""
        items = self._items
        index = torch.from_numpy(rows).to(items.index.device)
        return ItemBatch(
            index=items.index.index_select(0, index),
            features={name: table.index_select(0, index) for name, table in items.features.items()},
            count=items.count.index_select(0, index),
        )


class ItemLoader(TableLoader[ItemBatch]):
    """A `TableLoader` whose batches say how many items each rank has."""

    def handed(self, batch: ItemBatch, shares: np.ndarray) -> ItemBatch:
        return replace(batch, shares=tuple(shares.tolist()))


class ItemDataModule(TableDataModule):
    """Every item once an epoch, in near-equal batches, shuffled by (seed, epoch).

    Args:
        embeddings: modalities and counts of the catalogue.
        batch_size: most items of a step, over all ranks.
        seed: of the epochs' permutations.
    """

    def __init__(self, *, embeddings: ItemEmbeddings, batch_size: int, seed: int) -> None:
        super().__init__()
        self._embeddings, self._batch_size, self._seed = embeddings, batch_size, seed
        self._items: ItemBatch | None = None

    @property
    def items(self) -> ItemBatch:
        """The whole catalogue on the trainer's device; on the CPU the tables themselves, see `ItemEmbeddings.batch`."""
        if self._items is None:
            self._items = self._embeddings.batch()
        if self._items.index.device != self.place.device:
            self._items = self._items.to(self.place.device)
        return self._items

    def train_dataloader(self) -> ItemLoader:
        """Distinct items; each rank takes its part of the same permutation."""
        table, order = ItemTable(items=self.items), Shuffled(seed=self._seed)
        return ItemLoader(table=table, order=order, batch_size=self._batch_size, place=self.place)
