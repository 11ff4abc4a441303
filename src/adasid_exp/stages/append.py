"""Stage `append_sids`: SIDs of new items beside published ones, which do not move."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adasid_exp.artifacts import semantic_ids
from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.artifacts.store import Manifest
from adasid_exp.data.new_items import fingerprint, read_new_items
from adasid_exp.functional.sparsity import handover_weights
from adasid_exp.stages.assign import LEAVE, SHARDS, Assign, CodeTable, code_table, quality_of
from adasid_exp.stages.base import Stage, TaskStage, without
from adasid_exp.stages.building import construct, identity
from adasid_exp.stages.encoding import CHUNK, WEIGHTS, encode_catalogue
from adasid_exp.stages.tokenize import BEHAVIOR, Tokenize, item_inputs, trained_with_items
from adasid_exp.types import SidTable, UserError

CEILING = 4.0
"""Published weights at it are clipped, and say nothing of the mean."""


class AppendSids(TaskStage):
    """Published SIDs, their tokenizer and new items -> the same files and one shard more.

    The configuration is that of the published SIDs. ``sids`` names their folder; without it they are what
    ``stage=assign`` makes of this configuration.
    """

    name = "append_sids"
    version = 1

    @property
    def label(self) -> str:
        return f"{self.cfg.data.name}-{self.cfg.tokenizer.name}-{self.task}"

    @property
    def items(self) -> Path:
        """The folder of new items."""
        if self.cfg.stage.new_items is None:
            raise UserError("stage.new_items: name the folder of the new items (items.parquet and <modality>.npy)")
        return Path(self.cfg.stage.new_items)

    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"collisions": identity(self.cfg.collisions), "items": fingerprint(self.items)}
        if self.cfg.sids is not None:
            settings["published"] = self._published().signature
        return settings

    def inputs(self) -> dict[str, Stage]:
        inputs = {"tokenizer": Tokenize(self.cfg, self.task), **item_inputs(self.cfg, self.task)}
        return inputs if self.cfg.sids is not None else {"sids": Assign(self.cfg, self.task), **inputs}

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        published = inputs["sids"] if self.cfg.sids is None else Path(self.cfg.sids)
        self._check_policy(published)
        model, known = trained_with_items(self.cfg, self.task, inputs)
        item_ids, items = read_new_items(self.items, known.dims, BEHAVIOR)
        refuse_known(published, item_ids, self.items)
        mean = published_mean(model, known, published)
        model.forget_catalogue()
        new = appended(model, items, item_ids, published, self._policy(), mean, work / SHARDS)
        semantic_ids.append(published, new, out)
        codes = torch.from_numpy(semantic_ids.stored(out, "codes"))
        whole = CodeTable(codes=codes, sizes=new.sizes, modalities=new.modalities, ordered=new.ordered)
        (out / METRICS).write_text(json.dumps(quality_of(whole), indent=1, sort_keys=True))
        return {"published": len(codes) - len(item_ids), "new": len(item_ids)}

    def _policy(self) -> Any:
        return construct(without(self.cfg.collisions, "name"))

    def _published(self) -> Manifest:
        """The manifest of the folder that ``sids`` names.

        Raises:
            UserError: the folder is no artifact, or another tokenizer made it.
        """
        manifest = Manifest.load(Path(self.cfg.sids))
        if manifest.inputs.get("tokenizer") != self.upstream["tokenizer"].signature:
            raise UserError(
                f"sids: {self.cfg.sids} was not made by the tokenizer of this configuration; give the "
                "overrides that it was made with"
            )
        return manifest

    def _check_policy(self, published: Path) -> None:
        layout = semantic_ids.read_layout(published)
        was = (layout.get("collisions") or {"policy": LEAVE})["policy"]
        if was != self.cfg.collisions.name:
            raise UserError(f"collisions: {published} was made with {was}, not {self.cfg.collisions.name}; take {was}")


def refuse_known(published: Path, item_ids: np.ndarray, folder: Path) -> None:
    """New items must be new.

    Raises:
        UserError: one of them has a SID already.
    """
    known = semantic_ids.published_among(published, item_ids)
    if known:
        row = int(np.flatnonzero(item_ids == known[0])[0]) + 1
        raise UserError(
            f"{folder / 'items.parquet'} row {row}: item {known[0]} has a published SID, which stays; leave it out"
            f" ({len(known)} of {len(item_ids)} new items are published)"
        )


def published_mean(model: Any, items: ItemEmbeddings, published: Path) -> float:
    """mean(R) by which the published behavior weights were divided; 1 where no slot speaks of behavior.

    Found by encoding published items again: no artifact needs to have kept it. The weights at the ceiling are left out.
    """
    modalities = model.layout.modalities
    behavior = torch.tensor([name == BEHAVIOR for name in modalities])
    stored = torch.from_numpy(semantic_ids.stored(published, "weights", rows=len(items.count)))[:, : len(modalities)]
    for start in range(0, len(items.count) if behavior.any() else 0, CHUNK):
        part = stored[start : start + CHUNK]
        given = model.encode(items.batch(np.arange(start, start + len(part)))).weights.float()
        usable = behavior & (part > 0) & (part < CEILING)
        if usable.any():
            return float((given[usable].double() / part[usable].double()).median())
    return 1.0


def appended(
    model: Any, items: ItemEmbeddings, item_ids: np.ndarray, published: Path, policy: Any, mean: float, work: Path
) -> SemanticIds:
    """The SIDs of new items; a collision policy looks for free ones for them alone."""
    encoding = encode_catalogue(model, items, work, len(item_ids))
    table, own = code_table(encoding, model.layout), model.layout.modalities
    weights = handover_weights(table.codes, torch.from_numpy(encoding.whole(WEIGHTS)), own, mean=mean)
    before = torch.from_numpy(semantic_ids.stored(published, "codes"))
    after = policy.append(before, table.sids(), lambda rows: model.distances(items.batch(rows.numpy())))
    sizes = tuple(semantic_ids.read_layout(published)["sizes"])
    refuse_overflow(after, sizes)
    more = torch.ones(len(weights), after.codes.shape[1] - weights.shape[1])
    return SemanticIds(
        item_ids=item_ids,
        codes=after.codes.numpy(),
        weights=torch.cat([weights, more], dim=1).numpy(),
        modalities=after.modalities,
        sizes=sizes,
        ordered=after.ordered,
    )


def refuse_overflow(sids: SidTable, sizes: Sequence[int]) -> None:
    """A slot that numbers items cannot grow once models know its size.

    Raises:
        UserError: a new item's number is beyond it.
    """
    over = int((sids.codes >= torch.tensor(sizes)).any(dim=1).sum())
    if over:
        raise UserError(
            f"collisions.bound: {over} new items need numbers beyond the {sizes[-1]} of the published SIDs; "
            "publish anew with a larger bound"
        )
