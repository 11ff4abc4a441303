"""Stage `assign`: the SIDs of the whole catalogue, with a report on their quality."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from omegaconf import DictConfig
from torch import Tensor

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.semantic_ids import SemanticIds, save_shards
from adasid_exp.functional import codebook
from adasid_exp.functional.collisions import DEDUP
from adasid_exp.functional.sparsity import behavior_sum, handover_weights
from adasid_exp.stages.base import Stage, TaskStage, without
from adasid_exp.stages.building import construct, encoding_part, identity
from adasid_exp.stages.encoding import CODES, ERROR, OWN, WEIGHTS, Encoding, encode_catalogue
from adasid_exp.stages.loading import load_task
from adasid_exp.stages.tokenize import BEHAVIOR, Tokenize, item_inputs, trained_with_items
from adasid_exp.types import PAD, SidTable

log = logging.getLogger(__name__)

SHARDS = "shards"
"""Folder of what is encoded, within the work folder."""

AT_ONCE = 2**20
"""Rows of codes that are widened to 64 bits at once."""

ITEMS = "items.parquet"

ItemIds = np.ndarray | pl.Series
"""The catalogue's own ids, strings ``[items]``."""

LEAVE = "none"
"""The collision policy that leaves SIDs as they are."""


class Assign(TaskStage):
    """Trained tokenizer and item embeddings -> `SemanticIds`, quality figures, per-item diagnostics."""

    name = "assign"
    version = 2

    @property
    def label(self) -> str:
        return f"{self.cfg.data.name}-{self.cfg.tokenizer.name}-{self.task}"

    def settings(self) -> dict[str, Any]:
        settings = encoding_part(self.cfg.tokenizer)
        if self.cfg.collisions.name != LEAVE:
            # Only then, so that SIDs made before there were policies keep their signature.
            settings["collisions"] = identity(self.cfg.collisions)
        return settings

    def inputs(self) -> dict[str, Stage]:
        return {"tokenizer": Tokenize(self.cfg, self.task), **item_inputs(self.cfg, self.task)}

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        item_ids = load_task(self.cfg, self.task, inputs["dataset"]).item_ids()
        model, items = trained_with_items(self.cfg, self.task, inputs)
        encoding = encode_catalogue(model, items, work / SHARDS, self.cfg.shard_rows, self.cfg.progress)
        table = parted(code_table(encoding, model.layout), self.cfg.collisions, model, items)
        save_sids(out, item_ids, table, encoding, model.layout.modalities)
        errors = {name: encoding.whole(ERROR + name) for name in encoding.names(ERROR)}
        per_item = item_columns(encoding, items.count, table) | {"recon_error": np.mean(list(errors.values()), axis=0)}
        pl.DataFrame({"item_id": item_ids, **per_item}).write_parquet(out / ITEMS)
        metrics = quality_of(table) | reconstruction(errors) | by_popularity(per_item, items.count)
        (out / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True))
        facts = {} if table.collisions is None else {"collisions": dict(table.collisions)}
        return {"modalities": sorted(set(table.modalities)), **metrics, **facts}


@dataclass(frozen=True, kw_only=True)
class CodeTable:
    """The codes of the whole catalogue, the one array of its size that is held; see `SemanticIds`.

    Attributes:
        codes: int16 ``[items, slots]``.
        sizes, modalities, ordered, collisions: as there.
    """

    codes: Tensor
    sizes: tuple[int, ...]
    modalities: tuple[str, ...]
    ordered: bool
    collisions: Mapping[str, Any] | None = None

    def sids(self) -> SidTable:
        """As collision policies take it; they give new slots the weight 1 and leave the others alone."""
        weights = torch.ones(()).expand(self.codes.shape)
        return SidTable(
            codes=self.codes, weights=weights, sizes=self.sizes, modalities=self.modalities, ordered=self.ordered
        )


def code_table(encoding: Encoding, layout: Any) -> CodeTable:
    """The codes as the tokenizer gave them."""
    codes = torch.from_numpy(encoding.whole(CODES))
    return CodeTable(codes=codes, sizes=layout.sizes, modalities=layout.modalities, ordered=layout.ordered)


def parted(table: CodeTable, node: DictConfig, model: Any, items: ItemEmbeddings) -> CodeTable:
    """The SIDs after the collision policy of ``node``, with a record of what it did; what still collides is said."""
    if node.name == LEAVE:
        return table
    policy = construct(without(node, "name"))
    after = policy(table.sids(), lambda rows: model.distances(items.batch(rows.numpy())))
    slots = table.codes.shape[1]
    left = len(after.codes) - int(codebook.sid_groups(after.codes).max()) - 1
    record = {
        "policy": node.name,
        "moved": int((after.codes[:, :slots] != table.codes).any(dim=1).sum()),
        "rate_before": float(codebook.collision_rate(table.codes)),
        "rate_after": float(codebook.collision_rate(after.codes)),
        "not_resolved": left,
    }
    log.info(
        "collisions %s: %.2f %% of %d items before, %.2f %% after; %d moved, %d found no SID of their own",
        node.name, 100 * record["rate_before"], len(after.codes), 100 * record["rate_after"], record["moved"], left,
    )  # fmt: skip
    return CodeTable(
        codes=after.codes, sizes=after.sizes, modalities=after.modalities, ordered=after.ordered, collisions=record
    )


def save_sids(folder: Path, item_ids: ItemIds, table: CodeTable, encoding: Encoding, modalities: Sequence[str]) -> None:
    """Writes the SIDs as `SemanticIds.save` does, or shard by shard where the catalogue has several.

    Args:
        folder: of the artifact.
        item_ids: the catalogue's own ids.
        table: codes to write.
        encoding: where their weights are.
        modalities: of the tokenizer's own slots.
    """
    parts = shards_of_sids(item_ids, table, encoding, modalities)
    if len(encoding.parts) == 1:
        next(parts).save(folder)
    else:
        save_shards(folder, parts, inverse_shards(item_ids, table.codes, len(encoding.parts)))


def shards_of_sids(
    item_ids: ItemIds, table: CodeTable, encoding: Encoding, modalities: Sequence[str]
) -> Iterator[SemanticIds]:
    """The SIDs of each shard, their weights as downstream models take them."""
    mean = mean_behavior_weight(encoding, modalities)
    for number, part in enumerate(encoding.parts):
        codes = table.codes[part]
        own = handover_weights(codes[:, : len(modalities)], encoding.read(number, WEIGHTS), modalities, mean=mean)
        more = torch.ones(len(codes), codes.shape[1] - own.shape[1])
        yield SemanticIds(
            item_ids=np.asarray(item_ids[part]),
            codes=codes.numpy(),
            weights=torch.cat([own, more], dim=1).numpy(),
            modalities=table.modalities,
            sizes=table.sizes,
            ordered=table.ordered,
            collisions=table.collisions,
        )


def mean_behavior_weight(encoding: Encoding, modalities: Sequence[str]) -> float:
    """mean(R) over the catalogue; 1 where no slot speaks of behavior."""
    sums = [
        behavior_sum(encoding.read(number, CODES), encoding.read(number, WEIGHTS), modalities)
        for number in range(len(encoding.files))
    ]
    total, count = sum(total for total, _ in sums), sum(count for _, count in sums)
    return total / count if count else 1.0


def inverse_shards(item_ids: ItemIds, codes: Tensor, shards: int) -> Iterator[pl.DataFrame]:
    """The inverse map in ascending order of SIDs, in parts of about as many items; no SID is in two of them."""
    groups = codebook.sid_groups(codes)
    order = groups.argsort(stable=True)
    ends = groups.bincount().cumsum(0)
    ids = as_series(item_ids)
    cuts = torch.searchsorted(ends, torch.arange(1, shards) * (len(order) // shards)) if shards > 1 else ends[:0]
    borders = [0, *ends[cuts].tolist(), len(order)]
    for start, stop in pairwise(borders):
        rows = order[start:stop]
        first = torch.cat([rows.new_ones(1, dtype=torch.bool), groups[rows[1:]] != groups[rows[:-1]]])
        sorted_ids = pl.DataFrame({"group": groups[rows].numpy(), "item_ids": ids.gather(rows.numpy())})
        lists = sorted_ids.group_by("group", maintain_order=True).agg(pl.col("item_ids"))["item_ids"]
        own = pl.Series("codes", codes[rows[first]].numpy(), dtype=pl.Array(pl.Int16, codes.shape[1]))
        yield pl.DataFrame([own, lists, lists.list.len().alias("items")])


def as_series(item_ids: ItemIds) -> pl.Series:
    """Ids as polars holds them, 16 bytes a short one; taken over in parts, since each becomes a Python string first."""
    parts = [pl.Series("item_id", item_ids[start : start + AT_ONCE]) for start in range(0, len(item_ids), AT_ONCE)]
    return pl.concat(parts)


def quality(sids: SemanticIds) -> dict[str, float]:
    """`quality_of` stored SIDs."""
    codes = torch.from_numpy(sids.codes.astype(np.int16))
    return quality_of(CodeTable(codes=codes, sizes=sids.sizes, modalities=sids.modalities, ordered=sids.ordered))


def quality_of(table: CodeTable) -> dict[str, float]:
    """Codebook figures over the catalogue, PAD excluded; entropies in nats, means over the slots that were learnt."""
    codes, items = table.codes, len(table.codes)
    counts, used_by = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    for part in codes.split(AT_ONCE):
        counts = counts + codebook.code_counts(part.long(), table.sizes)
        used_by = used_by + (part != PAD).sum(dim=0)
    entropy, used = codebook.token_entropy(counts), codebook.utilisation(counts, table.sizes)
    sharers = codebook.group_sizes(codes)
    unique, most = torch.tensor(len(sharers) / max(1, items), dtype=torch.float64), sharers.max()
    del sharers  # as long as the catalogue has SIDs
    length = torch.cat([codebook.active_length(part).double() for part in codes.split(AT_ONCE)])
    # A slot of one code says nothing: 0 of 0 is 0.
    ceiling = torch.tensor(table.sizes, dtype=torch.float64).log().clamp(min=1e-12)
    learnt = torch.tensor([modality != DEDUP for modality in table.modalities])
    figures = {
        "entropy": entropy[learnt].mean(),
        "entropy_ratio": (entropy / ceiling)[learnt].mean(),
        "perplexity": codebook.perplexity(counts)[learnt].mean(),
        "utilization": used[learnt].mean(),
        "unique_rate": unique,
        "collision_rate": 1.0 - unique,
        "max_collision": most,
        "mean_active_length": length.mean(),
        "std_active_length": length.std(),
    }
    for slot, load in enumerate(used_by.double() / items):
        figures |= {
            f"slot{slot}/entropy": entropy[slot],
            f"slot{slot}/utilization": used[slot],
            f"slot{slot}/load": load,
        }
    return {key: float(value) for key, value in figures.items()}


def reconstruction(errors: Mapping[str, np.ndarray]) -> dict[str, float]:
    """``recon_mse``: mean over modalities; ``recon_mse_<modality>``: mean over items. Predicting the mean gives 1.

    (Spec 13.1.) ``errors``: squared error of each item, the mean over dimensions of the z-scored target.
    """
    each = {f"recon_mse_{name}": float(np.mean(values, dtype=np.float64)) for name, values in errors.items()}
    return {"recon_mse": float(np.mean(list(each.values()))), **each}


def item_columns(encoding: Encoding, count: np.ndarray, table: CodeTable) -> dict[str, np.ndarray]:
    """What is worth keeping per item: training count, active slots, and the tokenizer's own diagnostics."""
    behavior = torch.tensor([modality == BEHAVIOR for modality in table.modalities])
    own = {name: encoding.whole(OWN + name) for name in encoding.names(OWN)}
    columns = {"count": count, "active_slots": _used(table.codes), **own}
    if behavior.any():
        columns["active_behavior_slots"] = _used(table.codes[:, behavior])
    return columns


def _used(codes: Tensor) -> np.ndarray:
    return torch.cat([codebook.active_length(part).short() for part in codes.split(AT_ONCE)]).numpy()


def by_popularity(columns: Mapping[str, np.ndarray], count: np.ndarray) -> dict[str, float]:
    """Mean of each column in each tenth of the catalogue by training count (ties by item order)."""
    order = np.argsort(count, kind="stable")
    return {
        f"decile{decile + 1}/{name}": float(np.mean(values[part]))
        for name, values in columns.items()
        for decile, part in enumerate(np.array_split(order, 10))
    }
