"""Weights & Biases: a run for every artifact, linked to its inputs; online, or offline to be sent later.

All calls of wandb stand here, and nothing here runs unless ``logger`` names it. Everything wandb writes lies in
``<runs>/logs/wandb``. Nothing waits long for a network: a server that does not answer is given up for the process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.util import Finalize
from netrc import NetrcParseError
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, WandbLogger

from adasid_exp.artifacts.store import MANIFEST
from adasid_exp.stages.ranks import first_rank
from adasid_exp.stages.recording import About, Outcome, Source
from adasid_exp.stages.wandb_login import PUBLIC, in_netrc, netrc_file, variable
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

STEP, EPOCH = "trainer/global_step", "epoch"
"""How Lightning names the two axes."""

CURVES = {
    "train/*": (STEP, "min,last"),
    "final/*": (STEP, None),
    "test/*": (EPOCH, None),
    **{f"val/{name}*": (EPOCH, "max,last") for name in ("recall", "ndcg", "sid_recall", "sid_ndcg", "auc", "gauc")},
    "val/logloss*": (EPOCH, "min,last"),
}
"""Axis and summary of curves by the start of their names; without one the summary is the last value itself."""

ONLINE, OFFLINE, DISABLED = "online", "offline", "disabled"
MODES = (ONLINE, OFFLINE, DISABLED)


@dataclass
class _Told:
    """What this process has said or found out, so that it is not said or tried again."""

    unreachable: bool = False
    where: bool = False


_told = _Told()


class WandbRuns:
    """Where runs go and what they are called; the arguments are the keys of conf/logger/wandb.yaml.

    Raises:
        UserError: an unknown mode.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str | None,
        group: str | None,
        mode: str | None,
        tags: Sequence[str],
        overrides: Sequence[str] | None,
        timeout: float,
        patience: float,
        upload: Sequence[str],
    ) -> None:
        self.project, self.entity, self.group = project, entity, group
        self.mode = OFFLINE if mode == "dryrun" else mode
        self.tags, self.overrides = list(tags), list(overrides or ())
        self.timeout, self.patience, self.upload = timeout, patience, tuple(upload)
        if self.mode is not None and self.mode not in MODES:
            raise UserError(f"logger.wandb.mode={mode} is unknown; it can be {', '.join(MODES)}")

    def open(self, about: About) -> Any:
        """The run of an artifact: the one that is open, or begun, or taken up again.

        Raises:
            UserError: mode=online without a login.
        """
        import wandb

        if wandb.run is not None and wandb.run.id == about.run_id:
            return wandb.run
        about.logs.mkdir(parents=True, exist_ok=True)
        at_home(about.logs)
        run = self._begun(about, self._mode())
        for name, (axis, summary) in CURVES.items():
            run.define_metric(name, step_metric=axis, summary=summary)
        if parent_process() is not None:  # a child process does not run exit handlers: wandb's own would not be heard
            Finalize(None, wandb.finish, exitpriority=10)
        return run

    def logger(self, about: About) -> Logger:
        """For a training, which goes on with the artifact's run."""
        run = self.open(about) if first_rank() else None
        return WandbLogger(project=self.project, save_dir=str(about.logs), experiment=run)

    def record(self, about: About, outcome: Outcome) -> None:
        """Figures, pictures, tables, lineage and cost of a finished artifact."""
        import wandb

        run = self.open(about)
        if outcome.metrics:
            run.log(dict(outcome.metrics))
        for name, frame in outcome.tables.items():
            run.log({name: wandb.Table(columns=list(frame.columns), data=[list(row) for row in frame.rows()])})
        for name, draw in outcome.pictures.items():
            run.log({name: wandb.Image(draw())})
        for source in outcome.inputs:
            # Not use_artifact, which refuses to work offline; what it calls does.
            run._log_artifact(
                self._artifact(source), aliases=[source.signature], is_user_created=True, use_after_commit=True
            )
        if outcome.output is not None:
            run.log_artifact(self._artifact(outcome.output), aliases=[outcome.output.signature])
        run.summary.update({f"cost/{name}": value for name, value in outcome.cost.items()})

    def close(self, *, failed: bool) -> None:
        """Ends the open run, if any."""
        import wandb

        if wandb.run is not None:
            wandb.finish(exit_code=int(failed))

    def holds(self, about: About) -> bool:
        """Whether some process of this machine has begun the artifact's run before."""
        return any((_home(about.logs) / "wandb").glob(f"*run-*-{about.run_id}"))

    def _mode(self) -> str:
        if self.mode == ONLINE and not logged_in():
            raise UserError(
                "logger.wandb.mode=online (or WANDB_MODE) needs a login: run `wandb login`, set WANDB_API_KEY, "
                "or leave the mode out to keep runs offline"
            )
        if self.mode in (None, ONLINE) and _told.unreachable:
            return OFFLINE
        return self.mode or (ONLINE if logged_in() else OFFLINE)

    def _begun(self, about: About, mode: str) -> Any:
        import wandb

        if mode == OFFLINE and not _told.where:
            _told.where = True
            why = "" if self.mode == OFFLINE or _told.unreachable else "no login found: "
            folder = _home(about.logs) / "wandb"
            log.info("wandb: %sruns are kept offline; send them with: wandb sync %s/offline-run-*", why, folder)
        try:
            return self._init(about, mode)
        except (wandb.Error, TimeoutError) as error:
            if mode != ONLINE:
                raise
            _told.unreachable = _told.where = True
            wandb.teardown()
            log.warning(
                "wandb: %s did not take the run (%s); runs of this process are kept offline, send them later with: "
                "wandb sync %s/wandb/offline-run-*",
                base_url(), " ".join(str(error).split())[:160], _home(about.logs),
            )  # fmt: skip
            return self._init(about, OFFLINE)

    def _init(self, about: About, mode: Any) -> Any:
        import wandb

        return wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group,
            mode=mode,
            dir=str(_home(about.logs)),
            id=about.run_id,
            resume="allow",
            reinit="finish_previous",
            name=about.name,
            job_type=about.stage,
            tags=self.tags,
            config=dict(about.config),
            settings=wandb.Settings(
                init_timeout=self.timeout,
                login_timeout=self.timeout,
                finish_timeout=self.patience,
                silent=True,
                console="off",
                disable_job_creation=True,
                x_save_requirements=False,
                x_graphql_retry_max=1,
                x_graphql_timeout_seconds=self.timeout,
            ),
        )

    def _artifact(self, source: Source) -> Any:
        """The same content, so the same version on the server, whoever speaks of the artifact."""
        import wandb

        manifest = source.manifest
        artifact = wandb.Artifact(
            name=f"{manifest.stage}-{manifest.label}",
            type=manifest.stage,
            metadata={
                "signature": manifest.signature,
                "version": manifest.version,
                "settings": manifest.settings,
                "inputs": manifest.inputs,
                "facts": manifest.facts,
                "provenance": manifest.provenance,
                "folder": str(source.folder.resolve()),
                "files": manifest.files,
            },
        )
        names = [
            MANIFEST,
            *(name for name in manifest.files if manifest.stage in self.upload or name.endswith(".json")),
        ]
        for name in dict.fromkeys(names):  # immutable: published files never change, so they need no copy
            artifact.add_file(str(source.folder / name), name=name, policy="immutable", skip_cache=True)
        return artifact


def logged_in() -> bool:
    """Whether wandb has credentials: in the environment, or for its server in the netrc file."""
    if variable():
        return True
    hosts = {urlsplit(base_url()).netloc, *(() if "WANDB_BASE_URL" in os.environ else (PUBLIC,))}
    try:
        return in_netrc(hosts) is not None
    except (OSError, NetrcParseError) as error:
        log.warning("wandb: %s cannot be read (%s), so no login was found", netrc_file(), error)
        return False


def base_url() -> str:
    """The server: WANDB_BASE_URL, or that of ``wandb login --host``, or the public one."""
    import wandb

    return str(wandb.setup(wandb.Settings(silent=True, console="off")).settings.base_url)


def _home(logs: Path) -> Path:
    """The folder in which wandb makes its own folder ``wandb``."""
    return Path(os.environ.get("WANDB_DIR") or logs).resolve()


def at_home(logs: Path) -> None:
    """Keeps what wandb would put into the home folder beside the runs, unless the environment says where."""
    folder = _home(logs) / "wandb"
    for kind in ("DATA", "CACHE", "ARTIFACT"):
        os.environ.setdefault(f"WANDB_{kind}_DIR", str(folder / f".{kind.lower()}"))
    if not (Path.home() / ".config" / "wandb" / "settings").exists():  # it may name a server of one's own
        os.environ.setdefault("WANDB_CONFIG_DIR", str(folder / ".config"))
