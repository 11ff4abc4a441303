"""Command `export_model`: a trained tokenizer as files that give new items their SIDs without this package."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from adasid_exp.artifacts import semantic_ids
from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.artifacts.releases import Release, Releases, made
from adasid_exp.artifacts.store import Manifest, Store
from adasid_exp.stages.append import published_mean
from adasid_exp.stages.assign import LEAVE, Assign
from adasid_exp.stages.base import plain
from adasid_exp.stages.building import construct
from adasid_exp.stages.encoding import chunks
from adasid_exp.stages.tokenize import BEHAVIOR, trained_with_items
from adasid_exp.types import PAD, ItemBatch, UserError

log = logging.getLogger(__name__)

KIND = "sid-model"
COUNT = "count"
Runner = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]
NO_BEHAVIOR = "an item without interactions: zeros, and count 0"


class ExportModel:
    """The configured tokenizer, made if missing -> the next version in a folder of exports."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    def run(self, store: Store) -> None:
        """Exports and checks on the catalogue, unless the latest version is of the same tokenizer.

        Raises:
            UserError: a file gives other SIDs than the tokenizer, or the folder is no folder of exports.
        """
        if self.cfg.sids is not None:
            raise UserError("sids: export_model ships the configured tokenizer; leave sids out, its SIDs are made")
        assign = Assign(self.cfg)
        folder = assign.ensure(store)
        releases = Releases(root=self._root(assign), kind=KIND)
        with releases.draft() as draft:
            latest, same = releases.latest(), self._identity(assign)
            if latest is not None and latest.manifest["identity"] == same:
                log.info("nothing new: %s is this tokenizer", latest.folder)
                return
            model, items = trained_with_items(self.cfg, assign.task, self._inputs(assign, store))
            module = construct(
                plain(self.cfg.stage.exporter), tokenizer=model, mean=published_mean(model, items, folder)
            )
            facts = facts_of(module, model.layout) | {"published_sids": self._check_codes(module, items, folder)}
            facts |= {"formats": self._write(module, items, draft), "identity": same}
            summary = {"tokenizer": self.cfg.tokenizer.name, "files": sorted(path.name for path in draft.iterdir())}
            release = releases.publish(draft, {"summary": summary, **facts, "made_from": origin(assign, store)})
        say(release)

    def _root(self, assign: Assign) -> Path:
        return Path("export") / assign.label / "model" if self.cfg.stage.to is None else Path(self.cfg.stage.to)

    def _inputs(self, assign: Assign, store: Store) -> dict[str, Path]:
        return {role: stage.ensure(store) for role, stage in assign.upstream.items()}

    def _identity(self, assign: Assign) -> dict[str, Any]:
        """What an exported file depends on."""
        return {
            "sids": assign.signature,
            "tokenizer": assign.upstream["tokenizer"].signature,
            "torch": torch.__version__,
            "formats": {str(name): instantiate(node).version for name, node in self.cfg.stage.formats.items()},
            "adasid_exp": made()["adasid_exp"],
        }

    def _check_codes(self, module: Any, items: ItemEmbeddings, folder: Path) -> dict[str, Any]:
        """How many of the catalogue's SIDs the module gives again, and why not all.

        Raises:
            UserError: some are others for no known reason.
        """
        found = agreement_with_published(module, items, folder)
        reasons = self._reasons(module)
        if not reasons and found.share < 1 - self.cfg.stage.tolerance:
            raise UserError(
                f"tokenizer: the weights give {found.items - found.equal} of {found.items} items another SID "
                f"than {folder} holds; it was made elsewhere or by another version: delete it and run again"
            )
        return {"items": found.items, "equal": found.equal, "why_not_all": reasons}

    def _reasons(self, module: Any) -> list[str]:
        reasons = []
        if self.cfg.collisions.name != LEAVE:
            reasons.append(
                f"collisions={self.cfg.collisions.name} parted items that shared a SID, seeing the whole catalogue; "
                "the model gives SIDs before that, stage=append_sids those after"
            )
        if module.balanced:
            reasons.append("the catalogue's clusters were made of equal size; the model gives the nearest cluster")
        return reasons

    def _write(self, module: Any, items: ItemEmbeddings, draft: Path) -> dict[str, Any]:
        """Every format that holds, checked by its own runtime; of the others why not."""
        written: dict[str, dict[str, Any]] = {}
        for name, node in self.cfg.stage.formats.items():
            shape = instantiate(node)
            started = time.perf_counter()
            try:
                data = shape.write(module)
            except shape.failure as error:
                log.warning("no %s: %s", shape.file, error)
                written[str(name)] = {"why_not": str(error)}
                continue
            (draft / shape.file).write_bytes(data)
            seconds = time.perf_counter() - started
            found = agreement_of_runtime(module, shape.read(data), items)
            refuse_other_codes(shape.file, found, self.cfg.stage.tolerance)
            written[str(name)] = {
                "file": shape.file,
                "reader": shape.reader,
                "seconds": round(seconds, 2),
                "items": found.items,
                "equal": found.equal,
                "weights_off_by_at_most": found.weights,
            }
        return written


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two ways to assign SIDs agree on a catalogue.

    Attributes:
        items: in it.
        equal: items with the same SID.
        weights: largest difference of a weight among those.
    """

    items: int
    equal: int
    weights: float

    @property
    def share(self) -> float:
        """Of the items, those with the same SID."""
        return self.equal / self.items


def agreement_with_published(module: Any, items: ItemEmbeddings, folder: Path) -> Agreement:
    """The module against the SIDs in ``folder``; slots that a collision policy added are left out."""
    codes = torch.from_numpy(semantic_ids.stored(folder, "codes"))
    weights = torch.from_numpy(semantic_ids.stored(folder, "weights"))

    def published(batch: ItemBatch) -> tuple[Tensor, Tensor]:
        return codes[batch.index], weights[batch.index]

    return agreement(module, published, items)


def agreement_of_runtime(module: Any, runner: Runner, items: ItemEmbeddings) -> Agreement:
    """A file in its runtime against the module."""
    return agreement(module, lambda batch: runner(module.given(batch)), items)


def agreement(module: Any, other: Callable[[ItemBatch], tuple[Tensor, Tensor]], items: ItemEmbeddings) -> Agreement:
    """The module against another way, over the catalogue."""
    equal, furthest = 0, 0.0
    for batch in chunks(items, slice(0, len(items.count))):
        with torch.no_grad():
            codes, weights = module(*module.given(batch))
        found, its_weights = (values[:, : codes.shape[1]] for values in other(batch))
        same = (found == codes).all(dim=1)
        equal += int(same.sum())
        if same.any():
            furthest = max(furthest, float((its_weights - weights)[same].abs().max()))
    return Agreement(items=len(items.count), equal=equal, weights=furthest)


def refuse_other_codes(file: str, found: Agreement, tolerance: float) -> None:
    """A file that is no faithful copy is not published.

    Raises:
        UserError: more items than ``tolerance`` have another SID.
    """
    if found.share < 1 - tolerance:
        raise UserError(
            f"{file} gives {found.items - found.equal} of {found.items} items another SID than the tokenizer; "
            f"stage.tolerance={tolerance:g} allows fewer: leave the format out (~stage.formats.NAME) or raise it"
        )


def facts_of(module: Any, layout: Any) -> dict[str, Any]:
    """What a manifest says of inputs and outputs."""
    inputs = [
        {"name": name, "dtype": "int64", "shape": ["items"], "what": "interactions in the training part; 0: a new item"}
        if name == COUNT
        else {"name": name, "dtype": "float32", "shape": ["items", module.widths[name]], "what": "raw embedding"}
        for name in module.inputs
    ]
    slots = [{"modality": name, "size": size} for name, size in zip(layout.modalities, layout.sizes, strict=True)]
    shape = ["items", len(slots)]
    return {
        "inputs": inputs,
        "without_behavior": NO_BEHAVIOR if BEHAVIOR in module.inputs else None,
        "outputs": [
            {"name": "codes", "dtype": "int64", "shape": shape, "what": f"{PAD}: slot not used"},
            {"name": "weights", "dtype": "float32", "shape": shape, "what": "as published with the SIDs"},
        ],
        "slots": slots,
        "ordered": layout.ordered,
        "pad": PAD,
    }


def origin(assign: Assign, store: Store) -> dict[str, Any]:
    """Label, signature and settings of everything that the SIDs are made from: tokenizer, data, encoders."""
    made_from = {}
    for role, stage in assign.upstream.items():
        folder = store.find(stage.name, stage.signature)
        manifest = Manifest.load(folder) if folder else None
        made_from[role] = {
            "label": stage.label,
            "signature": stage.signature,
            "settings": stage.settings(),
            "commit": manifest.provenance["commit"] if manifest else None,
        }
    return made_from


def say(release: Release) -> None:
    """One line: what came, where it is, how far it is the tokenizer."""
    parts = [
        f"{record['file']}: {record['equal']} of {record['items']} items with the tokenizer's own SID"
        for record in release.manifest["formats"].values()
        if "file" in record
    ]
    log.info("exported %s to %s (%s)", release.manifest["summary"]["tokenizer"], release.folder, "; ".join(parts))
