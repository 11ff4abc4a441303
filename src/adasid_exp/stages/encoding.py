"""The pass of a tokenizer over a catalogue, shard by shard: what is finished stays, memory is that of one shard."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from adasid_exp.artifacts.files import appear
from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.data.pieces import wants_bar
from adasid_exp.stages.progress import rows_bar
from adasid_exp.types import ItemBatch

log = logging.getLogger(__name__)

CHUNK = 4096
"""Items encoded at once; codes do not depend on it."""

CODES, WEIGHTS, ERROR, OWN = "codes", "weights", "error/", "own/"
"""Tensors of a shard: SIDs, what the router gave, squared errors by modality, a method's own columns by name."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """An encoded catalogue on disk.

    Attributes:
        files: the shards, in the order of the catalogue.
        parts: the rows of each.
    """

    files: tuple[Path, ...]
    parts: tuple[slice, ...]

    def names(self, prefix: str) -> list[str]:
        """The columns whose name starts so, without it, in the order of the method."""
        with safe_open(self.files[0], "pt") as shard:
            order = shard.metadata()["order"].split("\n")
        return [name.removeprefix(prefix) for name in order if name.startswith(prefix)]

    def read(self, number: int, name: str) -> Tensor:
        """One tensor of one shard, ``[rows, ...]``."""
        with safe_open(self.files[number], "pt") as shard:
            return shard.get_tensor(name)

    def whole(self, name: str) -> np.ndarray:
        """One column of the whole catalogue, ``[items, ...]``."""
        return np.concatenate([self.read(number, name).numpy() for number in range(len(self.files))])


def encode_catalogue(
    model: Any, items: ItemEmbeddings, folder: Path, shard_rows: int, progress: bool | str = "auto"
) -> Encoding:
    """Encodes what an earlier attempt has not.

    Args:
        model: a trained tokenizer.
        items: the catalogue; read `CHUNK` rows at a time.
        folder: of the shards; outlives an interruption.
        shard_rows: items of one shard.
        progress: whether to draw a bar; "auto": on a terminal only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(items.count)
    parts = tuple(slice(start, min(start + shard_rows, count)) for start in range(0, count, shard_rows))
    files = tuple(folder / f"{part.start:011d}-{part.stop:011d}.safetensors" for part in parts)
    started, wanted = time.monotonic(), wants_bar(progress)
    missing = [(part, file) for part, file in zip(parts, files, strict=True) if not file.exists()]
    with rows_bar("encoding items", sum(part.stop - part.start for part, _ in missing), "items", wanted=wanted) as tell:
        before = 0
        for done, (part, file) in enumerate(missing, start=1):
            save_shard(encode_rows(model, items, part, partial(_add, tell, before)), file)
            before += part.stop - part.start
            if len(parts) > 1 and not wanted:
                left = (time.monotonic() - started) / done * (len(missing) - done)
                log.info("encoded %d of %d items, %.0f s left", part.stop, count, left)
    return Encoding(files=files, parts=parts)


def _add(tell: Callable[[int], None], before: int, rows: int) -> None:
    tell(before + rows)


def encode_rows(model: Any, items: ItemEmbeddings, part: slice, tell: Callable[[int], None]) -> dict[str, Tensor]:
    """SIDs, weights, errors and own columns of some rows, ``[rows, ...]`` by name; ``tell`` hears how many are done."""
    found: dict[str, list[Tensor]] = {}
    done = 0
    for batch in chunks(items, part):
        done += len(batch.index)
        tell(done)
        encoded, targets = model.encode(batch), model.targets(batch)
        columns = {CODES: encoded.codes.to(torch.int16), WEIGHTS: encoded.weights.float()}
        for name, guess in model.reconstruct(batch).items():
            columns[ERROR + name] = (guess - targets[name]).square().mean(dim=1).float()
        columns |= {OWN + name: values.float() for name, values in model.diagnostics(batch).items()}
        for name, values in columns.items():
            found.setdefault(name, []).append(values.cpu())
    return {name: torch.cat(values) for name, values in found.items()}


def save_shard(columns: dict[str, Tensor], file: Path) -> None:
    """Writes a shard whole or not at all."""
    whole = {name: values.contiguous() for name, values in columns.items()}
    appear(file, lambda path: save_file(whole, path, {"order": "\n".join(columns)}))


def chunks(items: ItemEmbeddings, part: slice) -> Iterator[ItemBatch]:
    """Rows of the catalogue in order, `CHUNK` at a time."""
    for start in range(part.start, part.stop, CHUNK):
        yield items.batch(np.arange(start, min(start + CHUNK, part.stop)))
