"""SASRec over a hashed item table: training and ranking in memory that does not grow with the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from adasid_exp.functional.scoring import TILE, USERS_AT_ONCE, TopK, exact_top_k, in_order, score_rows
from adasid_exp.functional.steps import last_steps, trimmed
from adasid_exp.nn.hashed_embedding import HashedEmbedding
from adasid_exp.nn.losses.next_item import FullSoftmax, NextItemLoss
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.base import TrainableRetriever
from adasid_exp.types import SequenceBatch, TargetRank, UserError

BLOCK = 1 << 20
"""Items whose rows are known at once; no result depends on it."""


class SasRecHashed(TrainableRetriever):
    """Scores an item by the inner product of the state and the sum of the item's rows.

    The product with a sum is the sum of the products: `USERS_AT_ONCE` users are multiplied with the table once,
    and an item's score is the sum of ``hashes`` of these numbers. So the whole catalogue is ranked exactly, a tile at
    a time, without a vector of any item; items that share all rows tie bit for bit.

    Args:
        items: size of the catalogue.
        counts: interactions of each item in the training part, int64 ``[items]``.
        encoder: histories of item vectors to states of the same width.
        rows: length of the table.
        hashes: rows that an item adds up.
        init_std: spread of the initial item vectors.
        next_item: the training loss; one that asks for a few items.

    Raises:
        UserError: the loss is a softmax over the whole catalogue.
    """

    def __init__(
        self,
        *,
        items: int,
        counts: Tensor,
        encoder: CausalTransformer,
        rows: int,
        hashes: int,
        init_std: float,
        next_item: NextItemLoss,
    ) -> None:
        super().__init__()
        if isinstance(next_item, FullSoftmax):
            raise UserError(
                "a hashed item table has no vector of every item for behavior.next_item=FullSoftmax; choose "
                "InBatchSoftmax or BinaryCrossEntropy (as behavior=sasrec_hashed does), or behavior=sasrec_full_softmax"
            )
        self.items = items
        self.table = HashedEmbedding(rows=rows, hashes=hashes, dim=encoder.dim)
        nn.init.normal_(self.table.weight, std=init_std / hashes**0.5)
        self.encoder = encoder
        self.next_item = next_item
        self.next_item.observe(counts)

    def loss(self, batch: SequenceBatch) -> Tensor:
        batch = trimmed(batch)
        return self.next_item(self.states(batch.history), self.table, batch)

    def states(self, history: Tensor) -> Tensor:
        """States after each step of ``[users, steps]`` histories, ``[users, steps, dim]``."""
        return self.encoder(self.table(history) * self.table.embedding_dim**0.5)

    @torch.no_grad()
    def rank(self, batch: SequenceBatch) -> TargetRank:
        batch = trimmed(batch)
        pairs = zip(self._products(batch), batch.target.split(USERS_AT_ONCE), strict=True)
        above, tied = torch.cat([self._counts(table.t().contiguous(), own) for table, own in pairs], dim=1).unbind()
        return TargetRank(above=above, tied=tied, sid_above=above, sid_tied=tied)

    @torch.no_grad()
    def recommend(self, batch: SequenceBatch, k: int) -> TopK:
        lists = [self._best(table, min(k, self.items)) for table in self._products(trimmed(batch))]
        return TopK(items=torch.cat([x.items for x in lists]), scores=torch.cat([x.scores for x in lists]))

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """The vectors of all items, made block by block in main memory, ``[items, dim]``."""
        vectors = torch.empty(self.items, self.table.embedding_dim)
        for items in self._blocks(BLOCK):
            vectors[items[0] : items[-1] + 1] = self.table(items).cpu()
        return vectors

    def _products(self, batch: SequenceBatch) -> Iterator[Tensor]:
        """A few users' last states times every row of the table, ``[users, rows]``."""
        states = last_steps(self.states(batch.history), batch.length)
        with torch.autocast(states.device.type, enabled=False):  # half precision would tie neighbors
            for part in states.float().split(USERS_AT_ONCE):
                yield part @ self.table.weight.t()

    def _blocks(self, size: int) -> Iterator[Tensor]:
        for first in range(0, self.items, size):
            yield torch.arange(first, min(first + size, self.items), device=self.table.weight.device)

    def _rows(self, items: Tensor) -> Tensor:
        return self.table.hashed(items).int()

    def _counts(self, table: Tensor, own: Tensor) -> Tensor:
        """Items above and level with each user's own, int64 ``[2, users]``; ``table`` is ``[rows, users]``."""
        wanted = score_rows(table, self._rows(own), None, None).diagonal().contiguous()
        counts = torch.zeros(2, len(own), dtype=torch.int64, device=own.device)
        for items in self._blocks(TILE):
            scores = score_rows(table, self._rows(items), None, None)
            counts += torch.stack([(scores > wanted).sum(0), (scores == wanted).sum(0)])
        return counts

    def _best(self, table: Tensor, k: int) -> TopK:
        """The k best items of each user; ``table`` is ``[users, rows]``."""
        best = TopK(items=table.new_zeros(len(table), 0, dtype=torch.int64), scores=table.new_zeros(len(table), 0))
        for items in self._blocks(BLOCK):
            found = exact_top_k(table[:, None], self._rows(items), k)
            scores = torch.cat([best.scores, found.scores], 1)
            both = in_order(scores, torch.cat([best.items, found.items + items[0]], 1))
            best = TopK(items=both.items[:, :k], scores=both.scores[:, :k])
        return best
