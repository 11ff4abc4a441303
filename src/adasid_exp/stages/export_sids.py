"""Command `export_sids`: SIDs as numbered versions that a serving system reads without this package."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from adasid_exp.artifacts.releases import Release, Releases
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.semantic_ids import read_layout, shards_of
from adasid_exp.artifacts.sid_export import facts_of, refuse_breaking, step_between, write_next
from adasid_exp.artifacts.store import MANIFEST, Manifest, Store, file_digest
from adasid_exp.data.sid_tables import load_sids
from adasid_exp.stages.assign import Assign
from adasid_exp.stages.base import plain
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

KIND = "semantic-ids"
FIGURES = ("collision_rate", "unique_rate", "max_collision", "mean_active_length", "entropy", "utilization")
MADE_BY = {"tokenizer": "tokenize", "dataset": "prepare"}
"""Stages of the inputs that a manifest says more of."""

WIDEST = 2**15
"""Codes are shipped in 16 bits."""


class ExportSids:
    """An `assign` or `append_sids` artifact, or a foreign table -> the next version in a folder of exports."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    def run(self, store: Store) -> None:
        """Exports, unless the latest version says the same.

        Raises:
            UserError: the table cannot be read, published SIDs would move, or the folder is no folder of exports.
        """
        source = self._source(store)
        releases = Releases(root=self._root(source), kind=KIND)
        with releases.draft() as draft:
            folder = self._as_folder(source, draft)
            before = releases.latest()
            step = None if before is None else step_between(before.folder, folder)
            if before is not None and step is not None and step.change.none:
                log.info("nothing new: %s has these SIDs", before.folder)
                return
            if before is not None and step is not None and not self.cfg.stage.allow_moved:
                refuse_breaking(step.change, before)
            out = draft / "out"
            out.mkdir()
            layout = write_next(out, folder, before, step)
            facts = facts_of(layout, before, None if step is None else step.change)
            release = releases.publish(
                out, {**facts, "quality": quality_of(source), "source": origin_of(source, store)}
            )
        say(release)

    def _source(self, store: Store) -> Path:
        if self.cfg.sids is not None:
            return Path(self.cfg.sids)
        if self.cfg.stage.sizes is not None:
            raise UserError("stage.sizes is for a foreign table; name it with sids=PATH or leave stage.sizes out")
        return Assign(self.cfg).ensure(store)

    def _root(self, source: Path) -> Path:
        if self.cfg.stage.to is not None:
            return Path(self.cfg.stage.to)
        return Path("export") / label_of(source) / "sids"

    def _as_folder(self, source: Path, draft: Path) -> Path:
        """The source in the form of `SemanticIds.save`; a foreign table is written so first."""
        if source.is_dir():
            refuse_damaged(source)
            return source
        found = load_sids(source, plain(self.cfg.stage.sizes))
        for note in found.notes:
            log.info("note: %s", note)
        if max(found.sids.sizes) > WIDEST:
            raise UserError(f"sids: {source} has a codebook of {max(found.sids.sizes)} codes; {WIDEST} can be exported")
        folder = draft / "source"
        folder.mkdir()
        found.sids.save(folder)
        return folder


def artifact_of(source: Path) -> Manifest | None:
    """The manifest of an artifact; None of a file, and of a folder that no stage made, such as an exported version."""
    path = source / MANIFEST
    if not path.is_file() or "kind" in json.loads(path.read_text()):
        return None
    return Manifest.load(source)


def refuse_damaged(source: Path) -> None:
    """What is published is what the stage wrote.

    Raises:
        UserError: the folder holds no SIDs, or a file of an artifact was changed.
    """
    layout, manifest = read_layout(source), artifact_of(source)
    for shard in shards_of(layout) if manifest else ():
        for name in (shard.table, shard.inverse):
            if manifest and file_digest(source / name) != manifest.files[name]["sha256"]:
                raise UserError(f"sids: {source / name} was changed after it was made; delete {source} to remake it")


def label_of(source: Path) -> str:
    """What the folder of exports is named after: the artifact's label, or the file's name."""
    manifest = artifact_of(source)
    if manifest is not None:
        return manifest.label
    return source.resolve().name if source.is_dir() else source.name.split(".")[0]


def origin_of(source: Path, store: Store) -> dict[str, Any]:
    """Where the SIDs come from: the artifact, its tokenizer and data; of a foreign file its name and digest."""
    if not source.is_dir():
        return {"kind": "foreign", "file": source.name, "sha256": file_digest(source)}
    manifest = artifact_of(source)
    if manifest is None:
        return {"kind": "foreign", "folder": source.resolve().name}
    return {
        "kind": "artifact",
        "stage": manifest.stage,
        "label": manifest.label,
        "signature": manifest.signature,
        "inputs": {role: _known(store, role, signature) for role, signature in manifest.inputs.items()},
        "commit": manifest.provenance["commit"],
        "created": manifest.provenance["created"],
    }


def _known(store: Store, role: str, signature: str) -> dict[str, Any]:
    """The signature of an input; of tokenizer and data also label and settings, if the store still has them."""
    folder = store.find(MADE_BY[role], signature) if role in MADE_BY else None
    if folder is None:
        return {"signature": signature}
    manifest = Manifest.load(folder)
    return {"signature": signature, "label": manifest.label, "settings": manifest.settings}


def quality_of(source: Path) -> Mapping[str, float]:
    """Figures of the artifact that a reader of the manifest may want; none of a foreign table."""
    path = source / METRICS
    if not path.is_file():
        return {}
    metrics = json.loads(path.read_text())
    return {name: metrics[name] for name in FIGURES if name in metrics}


def say(release: Release) -> None:
    """One line: what came, where it is, how to check it."""
    summary, change = release.manifest["summary"], release.manifest["change"]
    moved = f", {change['moved']} moved" if change else ""
    log.info(
        "exported %d items (%d new%s) to %s; check with: cd %s && sha256sum -c SHA256SUMS",
        summary["items"], summary["added"], moved, release.folder, release.folder,
    )  # fmt: skip
