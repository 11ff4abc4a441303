"""Command `report`: one HTML page of what the store holds for the chosen data; nothing is made for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from adasid_exp.artifacts.files import appear, folder_at
from adasid_exp.artifacts.store import Store
from adasid_exp.reporting.dashboard import load_dashboard
from adasid_exp.reporting.page.content import Page
from adasid_exp.reporting.page.html import render
from adasid_exp.reporting.render import duration
from adasid_exp.stages.base import plain
from adasid_exp.stages.grid import Grid, cells_of, load_grid, rows_on
from adasid_exp.stages.locations import EXPERIMENTS
from adasid_exp.stages.report_grids import Found, grid_view, runs_of
from adasid_exp.stages.report_records import (
    artifact_of,
    codebooks_of,
    lead_of,
    lost_of,
    manifests_of,
    missing_of,
    panels_of,
    provenance_of,
)
from adasid_exp.stages.reproduce import own_overrides
from adasid_exp.stages.schedule import stage_of
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

ORDER = ("table1", "table2", "table3", "table4", "figure3", "figure4", "figure5")
"""The paper's own come first, in its order."""


class Report:
    """What the store holds -> ``<out>``, one page."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    def run(self, store: Store) -> None:
        """Gathers and writes.

        Raises:
            UserError: nothing is there, an unknown grid was asked for, or the extra `report` is not installed.
        """
        started = time.perf_counter()
        out = Path(self.cfg.stage.out)
        folder_at(out.parent, "stage.out")
        found, skipped = self._found(store)
        if not any(each.done for each in found):
            name = self.cfg.data.name
            raise UserError(
                f"{store.root} holds no run of a grid on data={name}; make some: stage=reproduce data={name}"
            )
        text = render(self._page(store, found, skipped))
        appear(out, lambda path: path.write_text(text, encoding="utf-8"))
        spent = duration(time.perf_counter() - started)
        log.info("report: %s (%d grids, %.1f MB, %s)", out, len(found), len(text.encode()) / 1e6, spent)

    def _found(self, store: Store) -> tuple[list[Found], list[tuple[str, str]]]:
        """Grids that have something, and the others with the reason."""
        found, skipped = [], []
        asked = self.cfg.stage.grids
        for name in asked or known_grids():
            grid = load_grid(name)
            try:
                each = self._look(grid, store)
            except UserError as error:
                if asked:
                    raise
                skipped.append((name, f"does not fit data={self.cfg.data.name}: {str(error)[:200]}"))
                continue
            if each.done or asked or not grid.rows:
                found.append(each)
            else:
                skipped.append((name, "no run of it is in the store"))
        return found, skipped

    def _look(self, grid: Grid, store: Store) -> Found:
        rows = rows_on(grid.rows, self.cfg.data.name)
        cells = cells_of(grid, rows, self.cfg.stage.seeds or grid.seeds, own_overrides())
        done = {}
        for cell in cells:
            stage = stage_of(cell.overrides)
            folder = store.find(stage.name, stage.signature)
            if folder is not None:
                done[cell] = folder
        return Found(grid=grid, rows=rows, cells=cells, done=done)

    def _page(self, store: Store, found: Sequence[Found], skipped: Sequence[tuple[str, str]]) -> Page:
        dashboard = load_dashboard(plain(self.cfg.stage.dashboard))
        manifests = manifests_of(found, store)
        logs = Path(self.cfg.runs) / "logs"
        artifacts = [artifact_of(folder, one, logs, dashboard) for folder, one in manifests.values()]
        lost = lost_of(found, store)
        data = self.cfg.data.name
        return Page(
            title=f"Semantic IDs on {data}",
            data=data,
            lead=lead_of(found, [one for _, one in manifests.values()], lost),
            grids=[grid_view(each, store, data) for each in found],
            skipped=skipped,
            runs=[run for each in found for run in runs_of(each, store)],
            artifacts=artifacts,
            dashboard=panels_of(dashboard, artifacts),
            codebooks=codebooks_of(found, store),
            failures=lost,
            missing=[one for each in found for one in missing_of(each, store)],
            provenance=provenance_of([one for _, one in manifests.values()], command()),
        )


def known_grids() -> list[str]:
    """Every grid file's name, the paper's tables and figures first."""
    names = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
    return [*(name for name in ORDER if name in names), *(name for name in names if name not in ORDER)]


def command() -> str:
    """How the page was asked for."""
    return f"adasid {' '.join(HydraConfig.get().overrides.task)}"
