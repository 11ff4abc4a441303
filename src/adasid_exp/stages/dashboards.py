"""Command `dashboards`: the wandb workspace of `conf/dashboard`, made or brought up to date."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from fnmatch import translate
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from adasid_exp.artifacts.store import Store
from adasid_exp.reporting.dashboard import BAR, EPOCH, LINE, Dashboard, Panel, load_dashboard
from adasid_exp.stages.base import plain
from adasid_exp.stages.grid import load_grid
from adasid_exp.stages.locations import EXPERIMENTS
from adasid_exp.stages.wandb_runs import EPOCH as WANDB_EPOCH
from adasid_exp.stages.wandb_runs import STEP as WANDB_STEP
from adasid_exp.stages.wandb_runs import at_home, logged_in
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

LEGEND = "${run:displayName} (${run:jobType})"
COLUMNS = ("run:displayName", "run:jobType", "run:group", "summary:test/recall@50", "summary:test/auc")
"""Columns of the table of runs that stay in view."""

ID_LENGTH = 11
TABLES, FIGURES = "table/", "figure/"


class Dashboards:
    """The specification of `conf/dashboard` -> a saved view of the project, the same one each time."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    def run(self, store: Store) -> None:
        """Saves the workspace and says where it is.

        Raises:
            UserError: the specification is wrong, wandb-workspaces is missing, there is no login, or the server
                did not take it.
        """
        dashboard = load_dashboard(plain(self.cfg.dashboard))
        workspaces = _workspaces()
        at_home(Path(self.cfg.runs) / "logs")
        if not logged_in():
            raise UserError(
                "dashboards live on a wandb server and no login was found: run `wandb login` or set WANDB_API_KEY; "
                "stage=report shows the same panels without a network"
            )
        try:
            import wandb

            entity = str(self.cfg.stage.entity or wandb.Api().default_entity)
            made = workspace_of(dashboard, entity, self.cfg.stage.project)
            found = find(workspaces, made)
            saved = (found or made).save()
        except Exception as error:  # a dozen kinds, all of them of the network or the server
            raise UserError(
                f"wandb did not take the workspace ({' '.join(str(error).split())[:200]}); check the network, "
                f"stage.entity={self.cfg.stage.entity} and that the project {self.cfg.stage.project} has a run"
            ) from error
        log.info("workspace %r is %s at %s", dashboard.title, "updated" if found else "made", saved.url)


def find(workspaces: Any, made: Any) -> Any | None:
    """The workspace as it was saved before, with the sections of ``made``; None if there is none yet."""
    try:
        found = workspaces.Workspace.from_url(made.url)
    except ValueError as error:
        if "not found in project" not in str(error):
            raise
        return None
    found.name, found.sections, found.runset_settings = made.name, made.sections, made.runset_settings
    return found


def workspace_of(dashboard: Dashboard, entity: str, project: str) -> Any:
    """The workspace object, not yet saved; its internal name follows from the title, so that it is found again.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    workspaces = _workspaces()
    made = workspaces.Workspace(
        entity=entity,
        project=project,
        name=dashboard.title,
        sections=[
            workspaces.Section(
                name=section.title,
                panels=[each for panel in section.panels for each in _panels(panel)],
                is_open=number == 0,
            )
            for number, section in enumerate(dashboard.sections)
        ],
        runset_settings=workspaces.RunsetSettings(pinned_columns=list(COLUMNS)),
    )
    made._internal_name = f"nw-{hashlib.sha256(dashboard.title.encode()).hexdigest()[:ID_LENGTH]}-v"
    return made


def _panels(panel: Panel) -> Iterator[Any]:
    """What wandb shows for a panel: one object, or one for each table."""
    import wandb_workspaces.reports.v2 as wr

    title = f"{panel.title} ({panel.stage})"
    if panel.kind == LINE:
        stars = any("*" in metric for metric in panel.metrics)
        yield wr.LinePlot(
            title=title,
            x=WANDB_EPOCH if panel.x == EPOCH else WANDB_STEP,
            y=[] if stars else list(panel.metrics),
            metric_regex="|".join(_regex(metric) for metric in panel.metrics) if stars else None,
            legend_template=LEGEND,
        )
    elif panel.kind == BAR:
        yield wr.BarPlot(title=title, metrics=list(panel.metrics), legend_template=LEGEND)
    else:
        keys = media_keys(panel)
        pictures = [key for key in keys if not key.startswith(TABLES)]
        if pictures:
            yield wr.MediaBrowser(title=title, media_keys=pictures)
        for key in keys:
            if key.startswith(TABLES):
                yield wr.WeavePanelSummaryTable(table_name=key)


def media_keys(panel: Panel) -> list[str]:
    """The names that a media panel shows, stars resolved: wandb wants them in full."""
    plain_names = [metric for metric in panel.metrics if "*" not in metric]
    known = [*grid_media(), *plain_names] if len(plain_names) < len(panel.metrics) else plain_names
    return panel.of(known)


def grid_media() -> list[str]:
    """Tables and figures of all grids, by the names they are logged under."""
    grids = [load_grid(path.stem) for path in sorted(EXPERIMENTS.glob("*.yaml"))]
    tables = [f"{TABLES}{grid.name}" for grid in grids]
    return tables + [f"{FIGURES}{name}" for grid in grids for name in grid.figures]


def _regex(metric: str) -> str:
    """A pattern with stars as a regular expression that JavaScript reads, too."""
    return "^" + translate(metric).removeprefix("(?s:").removesuffix(")\\Z") + "$"


def _workspaces() -> Any:
    try:
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise UserError(
            "dashboards need wandb-workspaces; install it with: pip install 'adasid-exp[dashboards]'"
        ) from error
    return workspaces
