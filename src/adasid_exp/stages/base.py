"""A stage: one step of the pipeline, bound to a configuration, that makes one artifact.

A stage says what it depends on (`settings`, `inputs`), and from that follows its signature. Asking for its
artifact (`ensure`) finds it or makes it and everything upstream that is missing.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig, OmegaConf

from adasid_exp.artifacts.provenance import Meter, provenance
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.store import Manifest, Store, disk_trouble, list_files, signature_of
from adasid_exp.stages.progress import memory, spent
from adasid_exp.stages.ranks import COST, external_seat, make_together, several
from adasid_exp.stages.tracking import complete, tracked
from adasid_exp.types import UserError

log = logging.getLogger(__name__)


class Stage(ABC):
    """One step of the pipeline.

    Attributes:
        name: the stage's name, also its folder in the store.
        objective: the figure of ``metrics.json`` that a sweep maximizes; never one of the test split.
        version: raised, with a line in the changelog, when a change of code moves the stage's numbers.
        learner: the node of the configuration whose `fit` says how this stage trains; None if it does not.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    objective: ClassVar[str | None] = None
    learner: ClassVar[str | None] = None

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    @property
    @abstractmethod
    def label(self) -> str:
        """The readable half of the artifact's folder name; no part of the signature."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The resolved configuration the result depends on, as plain data."""

    @abstractmethod
    def inputs(self) -> dict[str, Stage]:
        """The stages whose artifacts this one reads, by role."""

    @abstractmethod
    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        """Writes the artifact's files into ``out`` and returns facts for the manifest.

        ``work`` survives a crash: checkpoints go there.
        """

    @cached_property
    def upstream(self) -> dict[str, Stage]:
        """`inputs`, built once."""
        return self.inputs()

    @cached_property
    def signature(self) -> str:
        """Hash of everything the result depends on."""
        return signature_of(
            {
                "stage": self.name,
                "version": self.version,
                "settings": self.settings(),
                "inputs": {role: stage.signature for role, stage in self.upstream.items()},
            }
        )

    @property
    def title(self) -> str:
        """``stage label signature`` for people."""
        return f"{self.name} {self.label} [{self.signature[:8]}]"

    def walk(self) -> Iterator[Stage]:
        """This stage and everything upstream, inputs before those who need them, each signature once."""
        seen: set[str] = set()

        def visit(stage: Stage) -> Iterator[Stage]:
            if stage.signature in seen:
                return
            seen.add(stage.signature)
            for upstream in stage.upstream.values():
                yield from visit(upstream)
            yield stage

        yield from visit(self)

    def ensure(self, store: Store) -> Path:
        """The artifact's folder; made now, with what it needs, if it is not there."""
        found = store.find(self.name, self.signature)
        if found is not None:
            log.debug("found %s", self.title)
            return found
        inputs = {role: stage.ensure(store) for role, stage in self.upstream.items()}
        if store.busy(self.name, self.signature):
            log.info("waiting: another process is making %s", self.title)
        with store.claim(self.name, self.signature) as work:
            return store.find(self.name, self.signature) or self._make(store, inputs, work)

    def run(self, store: Store) -> float | None:
        """Makes the artifact, says where it is and returns the objective, if the stage has one."""
        started = time.perf_counter()
        folder = self.ensure(store)
        complete(self, store)
        value, said = None, [f"took {spent(time.perf_counter() - started)}", memory()]
        if self.objective is not None:
            value = float(json.loads((folder / METRICS).read_text())[self.objective])
            said.insert(0, f"{self.objective} = {value:.4f}")
        log.info("%s is in %s  (%s)", self.title, folder, ", ".join(said))
        return value

    def _make(self, store: Store, inputs: Mapping[str, Path], work: Path) -> Path:
        log.info("making %s", self.title)
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        with tracked(self, apart=self._together and external_seat() is None) as tell:
            meter = Meter()
            facts = self._made(inputs, work, out)
            spent = facts.pop(COST, {})  # by ranks: other processes than this one
            manifest = Manifest(
                stage=self.name,
                version=self.version,
                label=self.label,
                signature=self.signature,
                settings=self.settings(),
                inputs={role: stage.signature for role, stage in self.upstream.items()},
                files=list_files(out),
                facts=facts,
                provenance={**provenance(meter), **spent},
            )
            final = store.publish(out, manifest)
            shutil.rmtree(work, ignore_errors=True)
            tell(final, inputs)
        log.info("made %s in %.1f s", self.title, manifest.provenance["seconds"])
        return final

    @property
    def _together(self) -> bool:
        """Whether ranks make it: the configuration asks for them and this stage trains."""
        return self.learner is not None and several(self.cfg.trainer) and bool(self.cfg[self.learner].fit.epochs)

    def _made(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        """`make`, by the ranks that the configuration asks for; disk trouble in one line."""
        try:
            return make_together(self, inputs, work, out) if self._together else self.make(inputs, work, out)
        except Exception as error:
            trouble = disk_trouble(error)
            if trouble is None or isinstance(error, UserError):
                raise
            raise UserError(
                f"the disk refused while making {self.title}: {trouble}; what was finished in {self.cfg.runs} "
                "is intact, the same command goes on from there"
            ) from error


class TaskStage(Stage):
    """A stage that is made once for each downstream task, since each may see its own training part only.

    Args:
        cfg: the whole configuration.
        task: ``retrieval`` or ``ranking``; None takes the configuration's.
    """

    def __init__(self, cfg: DictConfig, task: str | None = None) -> None:
        super().__init__(cfg)
        self.task: str = task or cfg.task


def plain(node: Any) -> Any:
    """A config node as resolved plain data, for `Stage.settings`."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def without(node: DictConfig, *names: str) -> dict[str, Any]:
    """A config node as resolved plain data lacking the keys ``names``."""
    return {key: value for key, value in plain(node).items() if key not in names}
