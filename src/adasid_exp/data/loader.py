"""The one loader: batches gathered from tables that already lie on the training device.

Per-row datasets and collation cost more than a training step here, so a batch is one gather by row numbers.
An epoch's order follows from (seed, epoch) alone, which makes a position in it all there is to resume.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from lightning import LightningDataModule

from adasid_exp.types import UserError

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)


class Table(Protocol[BatchOut]):
    """Rows on a device that can be gathered into a batch."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> BatchOut:
        """The batch of the rows numbered ``rows``, int64 ``[rows]``."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The order of one epoch.

    Attributes:
        rows: a permutation of all rows, int64 ``[rows]``; batches are cut from it evenly.
        steps: the order in which the cuts are visited, int64 ``[steps]``.
    """

    rows: np.ndarray
    steps: np.ndarray


class Order(ABC):
    """In what order an epoch visits rows; every rank computes the same plan."""

    @abstractmethod
    def plan(self, epoch: int, rows: int, steps: int) -> Plan:
        """The plan of epoch ``epoch`` over ``rows`` rows in ``steps`` steps."""


@dataclass(frozen=True, kw_only=True)
class Shuffled(Order):
    """A fresh permutation each epoch."""

    seed: int

    def plan(self, epoch: int, rows: int, steps: int) -> Plan:
        """See `Order.plan`."""
        return Plan(rows=np.random.default_rng([self.seed, epoch]).permutation(rows), steps=np.arange(steps))


@dataclass(frozen=True, kw_only=True)
class Bucketed(Order):
    """Shuffled, but rows of like length share a batch, so that little of a batch is padding.

    Rows are permuted, sorted by length within groups of ``span`` steps, cut, and the cuts visited in random
    order.

    Attributes:
        lengths: of each row, ``[rows]``.
        span: steps that are sorted together.
    """

    seed: int
    lengths: np.ndarray
    span: int

    def plan(self, epoch: int, rows: int, steps: int) -> Plan:
        """See `Order.plan`."""
        generator = np.random.default_rng([self.seed, epoch])
        permutation = generator.permutation(rows)
        edges = cuts(rows, steps)[:: self.span]
        group = np.searchsorted(edges, np.arange(rows), side="right")
        by_length = np.lexsort((self.lengths[permutation], group))
        return Plan(rows=permutation[by_length], steps=generator.permutation(steps))


@dataclass(frozen=True, kw_only=True)
class ByLength(Order):
    """The same order each epoch, short rows first: for evaluation, where only the padding matters.

    Attributes:
        lengths: of each row, ``[rows]``.
    """

    lengths: np.ndarray

    def plan(self, epoch: int, rows: int, steps: int) -> Plan:
        """See `Order.plan`."""
        return Plan(rows=np.argsort(self.lengths, kind="stable"), steps=np.arange(steps))


@dataclass(frozen=True, kw_only=True)
class InOrder(Order):
    """Row after row."""

    def plan(self, epoch: int, rows: int, steps: int) -> Plan:
        """See `Order.plan`."""
        return Plan(rows=np.arange(rows), steps=np.arange(steps))


def cuts(rows: int, parts: int) -> np.ndarray:
    """Borders that cut ``rows`` rows into ``parts`` parts whose sizes differ by at most one, int64."""
    return np.arange(parts + 1, dtype=np.int64) * rows // max(parts, 1)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process trains.

    Attributes:
        device: holds the tables.
        rank: number of the process; ``world`` is how many there are.
    """

    device: torch.device
    rank: int
    world: int


class EpochLoader(ABC, Generic[Batch]):
    """Iterates over rows, an epoch at a time; resumable within one.

    An epoch has ``ceil(rows / batch_size)`` steps for every rank. Each step takes near-equal parts of the rows, none
    is a small left-over (contrastive losses need company), none is dropped; the ranks share a step's rows near-equally
    as well, so that what a step sees does not depend on how many they are. A rank may get none.

    Args:
        rows: how many there are.
        batch_size: most rows of a step, over all ranks.
        place: rank and world size.
    """

    def __init__(self, *, rows: int, batch_size: int, place: Place) -> None:
        self.rows, self.batch_size, self.place = rows, batch_size, place
        self.epoch = 0
        self._position = 0
        self._loaded: tuple[int, int] | None = None

    @abstractmethod
    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """This rank's batches of an epoch from step ``start`` on."""

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        # Everything is read at the first next(): Lightning calls iter() before it sets the epoch.
        start = self._start()
        for position, batch in enumerate(self.batches(self.epoch, start), start):
            self._position = position + 1
            yield batch
        self.epoch += 1
        self._position = 0

    def _start(self) -> int:
        """First step of this epoch: a loaded position counts once, and only in its own epoch."""
        loaded, self._loaded = self._loaded, None
        return loaded[1] if loaded and loaded[0] == self.epoch else 0

    @property
    def batch_sampler(self) -> SimpleNamespace:
        """Where Lightning looks for ``sampler.set_epoch``: it announces each epoch there.

        A ``sampler`` of the loader itself would do too, but then Lightning takes it for a torch DataLoader.
        """
        return SimpleNamespace(sampler=self)

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration visits."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Epoch, steps already handed out and steps an epoch."""
        return {"epoch": self.epoch, "position": self._position, "steps": len(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state`` was taken.

        Raises:
            UserError: where the state lies inside an epoch of another number of steps.
        """
        if state["steps"] != len(self) and 0 < state["position"] < state["steps"]:
            raise UserError(
                f"the checkpoint is at step {state['position']} of an epoch of {state['steps']} steps, now "
                f"epochs have {len(self)}: resume with the batch size it was written with"
            )
        self.epoch, self._position = state["epoch"], state["position"]
        self._loaded = (state["epoch"], state["position"])


class TableLoader(EpochLoader[Batch]):
    """An `EpochLoader` over a table.

    Args:
        table: the rows.
        order: how an epoch visits them.
        batch_size: most rows of a step, over all ranks.
        place: rank and world size.
    """

    def __init__(self, *, table: Table[Batch], order: Order, batch_size: int, place: Place) -> None:
        super().__init__(rows=len(table), batch_size=batch_size, place=place)
        self.table, self.order = table, order

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """See `EpochLoader.batches`."""
        steps, world = len(self), self.place.world
        plan = self.order.plan(epoch, self.rows, steps)
        borders = cuts(self.rows, steps * world)
        for step in plan.steps[start:].tolist():
            part = step * world + self.place.rank
            batch = self.table.take(plan.rows[borders[part] : borders[part + 1]])
            yield self.handed(batch, np.diff(borders[step * world : (step + 1) * world + 1]))

    def handed(self, batch: Batch, shares: np.ndarray) -> Batch:
        """The batch as it is given out, where the ranks' batches of this step have ``shares [ranks]`` rows."""
        return batch


class TableDataModule(LightningDataModule):
    """A data module whose tables follow its trainer's device and rank; the CPU alone without a trainer."""

    @property
    def place(self) -> Place:
        """Device, rank and world size of the trainer."""
        if self.trainer is None:
            return Place(device=torch.device("cpu"), rank=0, world=1)
        return Place(
            device=self.trainer.strategy.root_device,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
