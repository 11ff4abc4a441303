"""Stage `assign`: the SIDs of the whole catalogue, with a report on their quality."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from omegaconf import DictConfig

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.functional import codebook
from adasid_exp.functional.collisions import DEDUP
from adasid_exp.functional.sparsity import handover_weights
from adasid_exp.stages.base import Stage, TaskStage, without
from adasid_exp.stages.building import construct, encoding_part, identity
from adasid_exp.stages.tokenize import (
    BEHAVIOR,
    Tokenize,
    item_embeddings,
    item_inputs,
    task_histories,
    trained_tokenizer,
)
from adasid_exp.types import PAD, ItemBatch, SidTable

log = logging.getLogger(__name__)

CHUNK = 4096
"""Items encoded at once; codes do not depend on it."""

ITEMS = "items.parquet"

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
        dataset = Dataset.load(inputs["dataset"])
        items = item_embeddings(self.cfg, self.task, inputs)
        histories = task_histories(self.cfg, self.task, inputs)
        model = trained_tokenizer(self.cfg.tokenizer, items, histories, inputs["tokenizer"])
        sids = assigned(model, items, dataset.item_ids)
        if self.cfg.collisions.name != LEAVE:
            sids = parted(sids, self.cfg.collisions, model, items)
        sids.save(out)
        errors = reconstruction_errors(model, items)
        per_item = item_columns(model, items, sids) | {"recon_error": np.mean(list(errors.values()), axis=0)}
        pl.DataFrame({"item_id": dataset.item_ids, **per_item}).write_parquet(out / ITEMS)
        metrics = quality(sids) | reconstruction(errors) | by_popularity(per_item, items.count)
        (out / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True))
        facts = {} if sids.collisions is None else {"collisions": dict(sids.collisions)}
        return {"modalities": sorted(set(sids.modalities)), **metrics, **facts}


def assigned(model: Any, items: ItemEmbeddings, item_ids: np.ndarray) -> SemanticIds:
    """The SIDs of all items, their weights as downstream models take them (spec 1.9)."""
    encoded = [model.encode(batch) for batch in chunks(items)]
    codes = torch.cat([part.codes for part in encoded])
    weights = handover_weights(codes, torch.cat([part.weights for part in encoded]), model.layout.modalities)
    layout = model.layout
    table = SidTable(
        codes=codes, weights=weights, sizes=layout.sizes, modalities=layout.modalities, ordered=layout.ordered
    )
    return semantic_ids(item_ids, table, None)


def semantic_ids(item_ids: np.ndarray, table: SidTable, collisions: Mapping[str, Any] | None) -> SemanticIds:
    """A table as it is stored."""
    return SemanticIds(
        item_ids=item_ids,
        codes=table.codes.to(torch.int16).numpy(),
        weights=table.weights.float().numpy(),
        modalities=table.modalities,
        sizes=table.sizes,
        ordered=table.ordered,
        collisions=collisions,
    )


def parted(sids: SemanticIds, node: DictConfig, model: Any, items: ItemEmbeddings) -> SemanticIds:
    """The SIDs after the collision policy of ``node``, with a record of what it did; what still collides is said."""
    before = sids.table()
    policy = construct(without(node, "name"))
    after = policy(before, lambda rows: model.distances(items.batch(rows.numpy())))
    slots = before.codes.shape[1]
    left = len(after.codes) - int(codebook.sid_groups(after.codes).max()) - 1
    record = {
        "policy": node.name,
        "moved": int((after.codes[:, :slots] != before.codes).any(dim=1).sum()),
        "rate_before": float(codebook.collision_rate(before.codes)),
        "rate_after": float(codebook.collision_rate(after.codes)),
        "not_resolved": left,
    }
    log.info(
        "collisions %s: %.2f %% of %d items before, %.2f %% after; %d moved, %d found no SID of their own",
        node.name, 100 * record["rate_before"], len(after.codes), 100 * record["rate_after"], record["moved"], left,
    )  # fmt: skip
    return semantic_ids(sids.item_ids, after, record)


def chunks(items: ItemEmbeddings) -> Iterator[ItemBatch]:
    """The catalogue in order, `CHUNK` items at a time."""
    for start in range(0, len(items.count), CHUNK):
        yield items.batch(np.arange(start, min(start + CHUNK, len(items.count))))


def quality(sids: SemanticIds) -> dict[str, float]:
    """Codebook figures over the catalogue, PAD excluded; entropies in nats, means over the slots that were learnt."""
    codes = sids.table().codes
    counts = codebook.code_counts(codes, sids.sizes)
    entropy, used = codebook.token_entropy(counts), codebook.utilisation(counts, sids.sizes)
    length = codebook.active_length(codes).double()
    ceiling = torch.tensor(sids.sizes, dtype=torch.float64).log().clamp(min=1e-12)  # a slot of one code says nothing: 0
    learnt = torch.tensor([modality != DEDUP for modality in sids.modalities])
    figures = {
        "entropy": entropy[learnt].mean(),
        "entropy_ratio": (entropy / ceiling)[learnt].mean(),
        "perplexity": codebook.perplexity(counts)[learnt].mean(),
        "utilization": used[learnt].mean(),
        "unique_rate": codebook.unique_rate(codes),
        "collision_rate": codebook.collision_rate(codes),
        "max_collision": codebook.max_collision(codes),
        "mean_active_length": length.mean(),
        "std_active_length": length.std(),
    }
    for slot, load in enumerate((codes != PAD).double().mean(dim=0)):
        figures |= {
            f"slot{slot}/entropy": entropy[slot],
            f"slot{slot}/utilization": used[slot],
            f"slot{slot}/load": load,
        }
    return {key: float(value) for key, value in figures.items()}


def reconstruction_errors(model: Any, items: ItemEmbeddings) -> dict[str, np.ndarray]:
    """Squared error of each item, the mean over dimensions of the z-scored target, float32 ``[items]`` by modality."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch in chunks(items):
        targets = model.targets(batch)
        for name, guess in model.reconstruct(batch).items():
            error = (guess - targets[name]).square().mean(dim=1)
            parts.setdefault(name, []).append(error.float().numpy())
    return {name: np.concatenate(each) for name, each in parts.items()}


def reconstruction(errors: Mapping[str, np.ndarray]) -> dict[str, float]:
    """``recon_mse``: mean over modalities; ``recon_mse_<modality>``: mean over items. Predicting the mean gives 1.

    (Spec 13.1.)
    """
    each = {f"recon_mse_{name}": float(np.mean(values, dtype=np.float64)) for name, values in errors.items()}
    return {"recon_mse": float(np.mean(list(each.values()))), **each}


def item_columns(model: Any, items: ItemEmbeddings, sids: SemanticIds) -> dict[str, np.ndarray]:
    """What is worth keeping per item: training count, active slots, and the tokenizer's own diagnostics."""
    parts = [model.diagnostics(batch) for batch in chunks(items)]
    own = {name: torch.cat([part[name] for part in parts]).float().numpy() for name in parts[0]}
    behavior = np.asarray([modality == BEHAVIOR for modality in sids.modalities])
    active = sids.codes != PAD
    columns = {"count": items.count, "active_slots": active.sum(axis=1).astype(np.int16), **own}
    if behavior.any():
        columns["active_behavior_slots"] = active[:, behavior].sum(axis=1).astype(np.int16)
    return columns


def by_popularity(columns: Mapping[str, np.ndarray], count: np.ndarray) -> dict[str, float]:
    """Mean of each column in each tenth of the catalogue by training count (ties by item order)."""
    order = np.argsort(count, kind="stable")
    return {
        f"decile{decile + 1}/{name}": float(np.mean(values[part]))
        for name, values in columns.items()
        for decile, part in enumerate(np.array_split(order, 10))
    }
