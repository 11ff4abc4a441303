"""The specification of a dashboard is read whole or refused by the key that is wrong."""

from __future__ import annotations

from copy import deepcopy

import pytest

from adasid_exp.reporting.dashboard import Panel, load_dashboard
from adasid_exp.types import UserError

PANEL = {"title": "Recall", "stage": "retrieve", "metrics": ["val/recall@50"], "x": "epoch", "kind": "line"}
NODE = {"title": "All", "sections": [{"title": "Retrieval", "panels": [PANEL]}]}


def test_what_is_written_is_what_is_read():
    dashboard = load_dashboard(NODE)
    assert dashboard.title == "All"
    (section,) = dashboard.sections
    assert section.panels == (
        Panel(title="Recall", stage="retrieve", metrics=("val/recall@50",), x="epoch", kind="line"),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"metric": ["a"]},
            r"sections\[0\].panels\[0\] has the unknown key 'metric'; did you mean 'metrics'",
        ),
        ({"kind": "pie"}, r"panels\[0\].kind: 'pie' is unknown; it can be line, bar, media"),
        ({"x": None}, r"panels\[0\].x: None is unknown; it can be epoch, step"),
        ({"kind": "bar"}, r"panels\[0\].x: 'epoch' is unknown; it can be null"),
        ({"metrics": "val/recall@50"}, r"panels\[0\].metrics: 'val/recall@50' should be a list"),
        ({"metrics": []}, "should be a list of at least one"),
        ({"title": 3}, r"panels\[0\].title: 3 should be a text"),
    ],
)
def test_a_wrong_key_is_named_with_its_place(change, said):
    node = deepcopy(NODE)
    node["sections"][0]["panels"][0] |= change
    with pytest.raises(UserError, match=said):
        load_dashboard(node)


def test_a_missing_key_is_named():
    node = deepcopy(NODE)
    del node["sections"][0]["panels"][0]["stage"]
    with pytest.raises(UserError, match=r"panels\[0\] lacks the key 'stage'"):
        load_dashboard(node)
    with pytest.raises(UserError, match="'no section' is no section"):
        load_dashboard({"title": "t", "sections": ["no section"]})


def test_a_star_stands_for_any_text_and_order_is_that_of_the_metrics():
    panel = Panel(title="t", stage="tokenize", metrics=("b", "a/*"), x="step", kind="line")
    assert panel.of(["a/2", "c", "a/1", "b", "ba/1"]) == ["b", "a/2", "a/1"]
