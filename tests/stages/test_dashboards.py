"""The workspace that `conf/dashboard` becomes: the built object, and what it would send; no network."""

from __future__ import annotations

import json
import warnings

import pytest
from omegaconf import OmegaConf

from adasid_exp.reporting.dashboard import LINE, load_dashboard
from adasid_exp.stages import dashboards
from adasid_exp.stages.dashboards import Dashboards, find, grid_media, workspace_of
from adasid_exp.stages.locations import CONF
from adasid_exp.types import UserError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")


@pytest.fixture(scope="module")
def node():
    return OmegaConf.to_container(OmegaConf.load(CONF / "dashboard" / "default.yaml"))


@pytest.fixture(scope="module")
def spec(node):
    return json.loads(
        workspace_of(load_dashboard(node), "me", "adasid")._to_model().spec.model_dump_json(by_alias=True)
    )


def panels_of(spec):
    return {section["name"]: section["panels"] for section in spec["section"]["panelBankConfig"]["sections"]}


def test_every_panel_of_the_specification_is_there_in_order(node, spec):
    built = panels_of(spec)
    dashboard = load_dashboard(node)
    assert list(built) == [section.title for section in dashboard.sections]
    for section in dashboard.sections:
        lines = [panel for panel in built[section.title] if panel["viewType"] == "Run History Line Plot"]
        wanted = [panel for panel in section.panels if panel.kind == LINE]
        for line, panel in zip(lines, wanted, strict=True):
            config = line["config"]
            assert config["chartTitle"] == f"{panel.title} ({panel.stage})"
            assert config["xAxis"] == {"epoch": "epoch", "step": "trainer/global_step"}[panel.x]
            assert config["metrics"] == list(panel.metrics) or config["useMetricRegex"]


def test_a_star_becomes_a_pattern_that_meets_the_names(spec):
    (line,) = [p for p in panels_of(spec)["Tokenizer"] if p["config"].get("useMetricRegex")]
    assert line["config"]["metricRegex"] == "^train/lambda_.*$"


def test_tables_and_figures_of_grids_are_named_in_full(spec):
    shown = json.dumps(panels_of(spec)["Outcome"])
    assert "table/table2" in grid_media()
    assert all(f'"{name}"' in shown for name in grid_media() if name.startswith(("figure/", "table/table")))
    assert "*" not in shown


def test_the_same_title_is_the_same_view_and_another_is_another(node):
    first, again = (workspace_of(load_dashboard(node), "me", "adasid") for _ in range(2))
    other = workspace_of(load_dashboard({**node, "title": "Other"}), "me", "adasid")
    assert first._internal_name == again._internal_name != other._internal_name


def test_a_view_that_is_there_is_updated_and_one_that_is_not_is_made(node, monkeypatch):
    """The server's side is played by what `from_url` gives; what is saved keeps the view's id."""
    made = workspace_of(load_dashboard(node), "me", "adasid")
    monkeypatch.setattr(workspaces.Workspace, "url", "https://server/me/adasid?nw=1", raising=False)
    there = workspaces.Workspace(entity="me", project="adasid", name="old", sections=[])
    there._internal_id = "VIEW"
    monkeypatch.setattr(workspaces.Workspace, "from_url", staticmethod(lambda url: there))
    found = find(workspaces, made)
    assert found._to_model().id == "VIEW"
    assert [section.name for section in found.sections] == [section.name for section in made.sections]

    def missing(url):
        raise ValueError("Workspace `x` not found in project `adasid`")

    monkeypatch.setattr(workspaces.Workspace, "from_url", staticmethod(missing))
    assert find(workspaces, made) is None


def test_without_a_login_one_line_says_how_to_get_one(node, monkeypatch, tmp_path):
    monkeypatch.setattr(dashboards, "logged_in", lambda: False)
    cfg = OmegaConf.create({"dashboard": node, "runs": str(tmp_path), "stage": {"project": "p", "entity": None}})
    with pytest.raises(UserError, match="wandb login.*WANDB_API_KEY.*stage=report"):
        Dashboards(cfg).run(store=None)
