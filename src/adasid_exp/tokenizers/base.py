"""What every tokenizer is: items in, semantic IDs out, with the hooks its training calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adasid_exp.nn.quantizers.residual_clusters import ResidualClusters
from adasid_exp.nn.standardize import Standardize
from adasid_exp.types import ItemBatch, UserError

SETTLE = 0.9
"""Share of training after which codebooks and controllers are left alone, so that ids settle."""


@dataclass(frozen=True, kw_only=True)
class SidLayout:
    """The form of a method's SIDs.

    Attributes:
        sizes: codebook size of each slot.
        modalities: what each slot speaks of ("shared", "text", ..., "behavior").
        ordered: whether a slot refines the one before it (residual SIDs) or slots are parallel.
    """

    sizes: tuple[int, ...]
    modalities: tuple[str, ...]
    ordered: bool


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """SIDs of some items.

    Attributes:
        codes: int64 ``[items, slots]``, ``PAD`` in unused slots.
        weights: float32 ``[items, slots]``, 0 at ``PAD``; 1 where the method has no weights.
    """

    codes: Tensor
    weights: Tensor


class Tokenizer(nn.Module, ABC):
    """Base of all tokenizers; what they learn besides gradients lives in buffers.

    A method in closed form learns all of it in ``fit_statistics``.

    Args:
        modalities: names of the embeddings the method reads.
        dims: width of every embedding the data has, by name; ``modalities`` picks from it.

    Raises:
        UserError: when ``modalities`` names an embedding the data lacks.
    """

    seed: Tensor

    def __init__(self, *, modalities: Sequence[str], dims: Mapping[str, int]) -> None:
        super().__init__()
        missing = [name for name in modalities if name not in dims]
        if missing:
            raise UserError(
                f"tokenizer.modalities: {', '.join(missing)} is not among the data's embeddings"
                f" ({', '.join(dims)}); name one of those or embed it first"
            )
        self.modalities = tuple(modalities)
        self.dims = {name: dims[name] for name in self.modalities}
        self.standardize = Standardize(dims=self.dims)
        # Fixed here and carried by the checkpoint: a resumed run draws what the first would have drawn.
        self.register_buffer("seed", torch.tensor(torch.initial_seed() % 2**31))

    @property
    @abstractmethod
    def layout(self) -> SidLayout:
        """The form of the SIDs that ``encode`` gives."""

    def forget_catalogue(self) -> bool:
        """Items to come are not those of training, whose numbers they may bear; whether SIDs hung on the catalogue."""
        hung = [part for part in self.modules() if isinstance(part, ResidualClusters) and part.by_member]
        for part in hung:
            part.forget_members()
        return bool(hung)

    @abstractmethod
    def encode(self, items: ItemBatch) -> Encoded:
        """SIDs without gradient: deterministic, each row on its own (call in eval mode)."""

    @abstractmethod
    def reconstruct(self, items: ItemBatch) -> dict[str, Tensor]:
        """What the hard codes say of ``targets``, ``[items, dim]`` by modality, without gradient."""

    @abstractmethod
    def distances(self, items: ItemBatch) -> Tensor:
        """Squared distances of what each slot quantizes to its codewords, ``[items, slots, size]``, without gradient.

        Up to a constant a row and slot; in an ordered SID what a slot quantizes depends on the codes before it.
        ``encode`` takes the nearest in every slot in use.
        """

    def targets(self, items: ItemBatch) -> dict[str, Tensor]:
        """Standardised inputs of the modelled modalities, ``[items, dim]`` by name."""
        return self.standardize(items)

    def diagnostics(self, items: ItemBatch) -> dict[str, Tensor]:
        """Columns ``[items]`` worth keeping beside the SIDs."""
        return {}

    def fit_statistics(self, items: ItemBatch) -> None:
        """Learn what the network needs from the whole catalogue, once before training."""
        self.standardize.fit(items)

    def generator(self, step: int) -> torch.Generator:
        """The CPU generator of draws made at ``step``: the same on every rank and after a resume."""
        return torch.Generator().manual_seed(int(self.seed) + 1_000_003 * step)


class TrainableTokenizer(Tokenizer):
    """Base of the tokenizers that learn by gradient; the hooks are called by ``training/tokenizer.py``."""

    _started: Tensor

    def __init__(self, *, modalities: Sequence[str], dims: Mapping[str, int]) -> None:
        super().__init__(modalities=modalities, dims=dims)
        self.register_buffer("_started", torch.tensor(False))
        self.started = False
        """Whether the warm-up is over; mirrors a buffer, so that a step does not wait for the device."""
        self.register_load_state_dict_post_hook(_recall_start)

    @abstractmethod
    def losses(self, items: ItemBatch) -> dict[str, Tensor]:
        """Weighted scalar terms by name; their sum is what training minimises."""

    def start(self, items: ItemBatch) -> None:
        """End the warm-up, which bypasses quantization: subclasses start their codebooks, then call this."""
        self._started.fill_(True)
        self.started = True

    def after_step(self, step: int, total_steps: int) -> None:  # noqa: B027
        """Called after optimiser step ``step`` (from 1)."""

    def end_epoch(self, items: ItemBatch, step: int, total_steps: int) -> None:  # noqa: B027
        """Called after each pass over the catalogue ``items``."""

    def gauges(self) -> dict[str, Tensor]:
        """Scalars that show where training stands and are no loss, read once an epoch."""
        return {}

    def finalize(self, items: ItemBatch) -> None:  # noqa: B027
        """Called once after the last step; doing it twice changes nothing."""


def settling(step: int, total_steps: int) -> bool:
    """Whether training is in the last part, in which revival and controllers stop."""
    return step >= SETTLE * total_steps


def sample_items(items: ItemBatch, rows: int, generator: torch.Generator) -> ItemBatch:
    """At most ``rows`` distinct items drawn uniformly."""
    count = items.index.numel()
    if count <= rows:
        return items
    chosen = torch.randperm(count, generator=generator)[:rows].to(items.index.device)
    return ItemBatch(
        index=items.index[chosen],
        features={name: values[chosen] for name, values in items.features.items()},
        count=items.count[chosen],
    )


def in_chunks(items: ItemBatch, rows: int) -> Iterator[ItemBatch]:
    """Consecutive parts of at most ``rows`` items, without copying; of no items an empty one."""
    for first in range(0, max(1, items.index.numel()), rows):
        yield part_of(items, first, first + rows)


def part_of(items: ItemBatch, first: int, last: int) -> ItemBatch:
    """Items ``first`` to ``last - 1``, without copying."""
    part = slice(first, last)
    features = {name: values[part] for name, values in items.features.items()}
    return ItemBatch(index=items.index[part], features=features, count=items.count[part])


def _recall_start(tokenizer: TrainableTokenizer, _keys: Any) -> None:
    tokenizer.started = bool(tokenizer._started)
