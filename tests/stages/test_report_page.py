"""The page of `stage=report`: what it gathers from a store of two tiny runs, and how it behaves in a real browser.

One store and one page serve all tests: two rows of Table 4 are made (they differ in beta alone), one is on record as
failed, one was never run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from adasid_exp.artifacts.failures import failures, record_failure
from adasid_exp.artifacts.results import METRICS
from adasid_exp.artifacts.store import Store
from adasid_exp.reporting.page.content import CodebookView, Collision, Page, Provenance
from adasid_exp.reporting.page.curves import read_curves
from adasid_exp.reporting.page.html import render
from adasid_exp.reporting.page.settings import flattened
from adasid_exp.stages import report as stage_report
from adasid_exp.stages.grid import cells_of, load_grid
from adasid_exp.stages.locations import CONF
from adasid_exp.stages.schedule import Job, _composed, _hydra_composed, make_one, stage_of
from adasid_exp.types import UserError
from conftest import MICRO

REASON = "the disk was full"

MADE = ("a20_b7", "a20_b9")


def shared(runs: Path) -> list[str]:
    return [*MICRO, f"runs={runs}", "progress=false", "scale.epochs.retriever=3"]


def store_of_two_runs(runs: Path) -> Store:
    grid, store = load_grid("table4"), Store(runs)
    for cell in cells_of(grid, grid.rows, [0], shared(runs)):
        if cell.row in MADE and cell.part != "ranking":
            stage_of(cell.overrides).ensure(store)
        if cell.row == "a10_b9" and cell.part == "quantization":
            stage = stage_of(cell.overrides)
            record_failure(runs, signature=stage.signature, title=stage.title, reason=REASON, overrides=cell.overrides)
    return store


def report_of(runs: Path, out: Path, *more: str) -> stage_report.Report:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        asked = ["stage=report", "stage.grids=[table4]", "stage.seeds=[0]", f"stage.out={out}", *more]
        return stage_report.Report(compose("config", overrides=[*shared(runs), *asked]))


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, written by the command's own code."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_report, "own_overrides", lambda: shared(folder / "runs"))
        patch.setattr(stage_report, "command", lambda: "adasid stage=report data=toy")
        store = store_of_two_runs(folder / "runs")
        report_of(folder / "runs", folder / "report.html").run(store)
    return folder / "report.html"


@pytest.fixture(scope="session")
def text(page_file: Path) -> str:
    return page_file.read_text()


@pytest.fixture(scope="session")
def payload(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="payload">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    tree: dict[str, Any] = json.loads(found.group(1))
    return tree


# ---- what is gathered, without a browser


def test_the_numbers_of_the_table_are_those_of_the_artifacts(page_file: Path, text: str) -> None:
    grid = load_grid("table4")
    for cell in cells_of(grid, grid.rows, [0], shared(page_file.parent / "runs")):
        if cell.row in MADE and cell.part == "quantization":
            stage = stage_of(cell.overrides)
            folder = Store(page_file.parent / "runs").find(stage.name, stage.signature)
            assert folder is not None
            value = json.loads((folder / METRICS).read_text())["entropy"]
            assert f'data-value="{value}"' in text


def test_what_was_not_run_and_what_failed_is_told_apart(text: str) -> None:
    lacking = text[text.index('<section id="lacking"') : text.index('<section id="provenance"')]
    rows = re.findall(r"<tr>(.*?)</tr>", lacking, re.DOTALL)
    states = {
        (re.search(r'<td class="text">\(α, β\) = \((.*?)\)</td>', row), re.search(r'class="tag (.*?)"', row))
        for row in rows
        if "(α, β)" in row
    }
    told = {(name.group(1), state.group(1)) for name, state in states if name and state}
    assert ("10, 9", "failed") in told
    assert ("20, 14", "failed") not in told
    assert {name for name, state in told if state == "not run"} == {"20, 7", "20, 9", "20, 14", "10, 9"}
    assert REASON in lacking


def test_settings_of_two_rows_differ_in_beta_alone(payload: dict[str, Any]) -> None:
    first, second = (
        next(run for run in payload["runs"] if run["row"] == row and run["part"] == "Quantization") for row in MADE
    )
    pairs = [
        {payload["pairs"][number][0]: payload["pairs"][number][1] for number in payload["artifacts"][sig]["settings"]}
        for sig in (first["roles"]["tokenize"], second["roles"]["tokenize"])
    ]
    different = {
        payload["keys"][key]: [payload["values"][side[key]] for side in pairs]
        for key in pairs[0]
        if pairs[0][key] != pairs[1].get(key)
    }
    assert different == {"tokenizer.align.beta": ["7", "9"]} or different == {"tokenizer.align.beta": ["7.0", "9.0"]}
    assert first["roles"]["prepare"] == second["roles"]["prepare"]


def test_curves_are_what_the_log_says(page_file: Path, payload: dict[str, Any]) -> None:
    run = next(run for run in payload["runs"] if "retrieve" in run["roles"])
    signature = run["roles"]["retrieve"]
    artifact = payload["artifacts"][signature]
    log = page_file.parent / "runs" / "logs" / "retrieve" / f"{artifact['label']}-{signature}" / "metrics.csv"
    header, *lines = [line.split(",") for line in log.read_text().splitlines()]
    column = header.index("train/loss")
    logged = [float(line[column]) for line in lines if line[column]]
    epochs, _, values = payload["learning"][signature]["curves"]["train/loss"]
    assert epochs == [1.0, 2.0, 3.0]
    assert values == pytest.approx(logged, rel=1e-4)


def test_nothing_is_fetched(text: str) -> None:
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r"""(?:src|href)=["'](?!#|data:)""", markup) == []
    assert "@import" not in markup
    assert "url(" not in markup
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy.group(1)
    assert "connect-src" not in policy.group(1)
    assert len(text.encode()) < 3_000_000


def test_comparisons_are_kept_as_long_as_the_runs_are_the_same(page_file: Path) -> None:
    kept = list((page_file.parent / "runs" / "comparisons").glob("table4-*.json"))
    assert len(kept) == 1
    found = json.loads(kept[0].read_text())
    assert {one["metric"] for one in found["comparisons"]} == {"recall@50", "ndcg@50"}
    assert {key for _, _, key, _ in found["over_users"]} >= {"test/recall@50", "test/ndcg@100"}


def test_a_store_without_runs_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_report, "own_overrides", lambda: shared(tmp_path))
    with pytest.raises(UserError, match=r"holds no run of a grid on data=toy; make some: stage=reproduce"):
        report_of(tmp_path, tmp_path / "out.html").run(Store(tmp_path))
    assert not (tmp_path / "out.html").exists()


# ---- parts


def test_settings_are_flattened_to_text() -> None:
    tree = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}, {"e": "x"}], "f": {}}
    assert flattened(tree) == {"a.b": "1", "a.c": "[1, 2]", "d.0.e": "null", "d.1.e": "x", "f": "{}"}


def test_epochs_of_a_log_follow_from_its_steps(tmp_path: Path) -> None:
    """By hand: 10 steps an epoch; the value measured at step 20, where training ended, is no validation epoch."""
    lines = ["epoch,step,train/loss,val/auc", ",10,3.0,", "0,9,,0.5", ",20,2.0,", "1,19,,0.6", "2,20,,0.6"]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    curves = read_curves(tmp_path)
    assert (curves["train/loss"].epoch, curves["train/loss"].value) == ([1.0, 2.0], [3.0, 2.0])
    assert (curves["val/auc"].epoch, curves["val/auc"].value) == ([1.0, 2.0], [0.5, 0.6])
    assert read_curves(tmp_path / "none") == {}


def test_a_failure_is_on_record_until_the_artifact_is_made(tmp_path: Path) -> None:
    overrides = ("stage=prepare", *shared(tmp_path), "seed=0")
    stage = stage_of(overrides)
    lost = Job(signature="0" * 16, title="tokenize x", overrides=overrides, needs=frozenset())
    reason = make_one(lost, tmp_path)
    assert reason is not None
    assert failures(tmp_path)["0" * 16].reason == reason
    record_failure(tmp_path, signature=stage.signature, title=stage.title, reason=REASON, overrides=overrides)
    assert make_one(Job(signature=stage.signature, title="", overrides=overrides, needs=frozenset()), tmp_path) is None
    assert set(failures(tmp_path)) == {"0" * 16}


def test_a_shared_composition_is_what_hydra_composes() -> None:
    for stage in ("assign", "rank", "stratify_retrieve"):
        overrides = (f"stage={stage}", "task=ranking", "tokenizer=rq_vae", "data=toy")
        assert _composed(overrides) == _hydra_composed(overrides)


HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'


def hostile_page() -> Page:
    group = Collision(sid=HOSTILE, size=2, examples=[HOSTILE, "]]></script>"])
    view = CodebookView(name="x", title=HOSTILE, facts=[(HOSTILE, HOSTILE)], slots=[], figures=[], collisions=[group])
    return Page(
        title=HOSTILE,
        data=HOSTILE,
        lead=[],
        grids=[],
        skipped=[(HOSTILE, HOSTILE)],
        runs=[],
        artifacts=[],
        dashboard=[{"title": HOSTILE, "panels": [], "folded": False}],
        codebooks=[view],
        failures=[],
        missing=[],
        provenance=Provenance(facts=[(HOSTILE, HOSTILE)], digests=[], costs=[]),
    )


def test_what_comes_from_data_is_escaped() -> None:
    text = render(hostile_page())
    assert "<script>window" not in text
    assert "<img src=x" not in text
    assert text.count("</script>") == 4  # theme, payload, bundle, page


# ---- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("ADASID_CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here; name one in ADASID_CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """A page opened without a network, and what it complained about."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.requests: list[str] = []
        self.said: list[str] = []
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(file.as_uri())

    def _route(self, route: Any) -> None:
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()


@pytest.fixture(scope="module")
def visit(browser: Any, page_file: Path) -> Iterator[Visit]:
    found = Visit(browser, page_file, color_scheme="light")
    yield found
    found.context.close()


def test_it_opens_without_a_network_and_draws(visit: Visit) -> None:
    visit.page.locator("#grid-table4 .plot svg").first.wait_for()
    visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    visit.page.locator("#learning .plot svg").first.wait_for()
    visit.page.locator(".codebook.shown .plot svg").first.wait_for()
    assert visit.requests == []
    assert visit.said == []


def test_a_column_sorts_both_ways(visit: Visit) -> None:
    table = visit.page.locator("#table-table4")
    button = table.get_by_role("button", name="entropy (nats)")
    seen = []
    for _ in range(2):
        button.click()
        order = table.locator("th[aria-sort]:not([aria-sort=none])").get_attribute("aria-sort")
        column = button.evaluate("e => e.closest('th').cellIndex")
        cells = table.locator("tbody tr").evaluate_all(
            f"rows => rows.map(r => r.cells[{column}].dataset.value ?? null)"
        )
        numbers = [float(value) for value in cells if value is not None]
        assert len(numbers) == 2
        assert cells[2:] == [None, None]  # what is missing stays below
        assert numbers == sorted(numbers, reverse=order == "descending")
        seen.append(order)
    assert seen == ["descending", "ascending"]


def test_rows_are_filtered_and_blocks_hidden(visit: Visit) -> None:
    grid = visit.page.locator("#grid-table4")
    grid.locator(".filter").fill("20, 7")
    assert grid.locator("tbody tr:visible .row-label").all_inner_texts() == ["(α, β) = (20, 7)"]
    assert grid.locator(".count").inner_text() == "1 of 4 rows"
    grid.locator(".filter").fill("")
    assert grid.locator("#table-table4 tbody tr:visible").count() == 4
    grid.get_by_label("Cost", exact=True).uncheck()
    assert grid.locator("#table-table4 [data-block=cost]:visible").count() == 0
    grid.get_by_label("Cost", exact=True).check()


def test_two_runs_picked_in_the_table_differ_in_beta(visit: Visit) -> None:
    for label in ("(20, 7)", "(20, 9)"):
        visit.page.get_by_role("button", name=f"Compare (α, β) = {label} with another row").click()
    rows = visit.page.locator("#difference tr", has=visit.page.locator("th[scope=row]"))
    rows.first.wait_for()
    changed = [rows.nth(place).inner_text().split("\t") for place in range(rows.count())]
    beta = next(row for row in changed if row[0] == "tokenizer.align.beta")
    assert [float(value) for value in beta[1:]] == [7.0, 9.0]
    assert not any(row[0] == "tokenizer.align.alpha" for row in changed)
    assert visit.page.evaluate("document.activeElement.id") == "h-compare"


def test_runs_are_chosen_with_the_keyboard(visit: Visit) -> None:
    visit.page.locator("#run-a").select_option(index=0)
    visit.page.locator("#run-b").select_option(index=0)
    assert "Nothing: both rest on the same artifacts." in visit.page.locator("#difference").inner_text()
    visit.page.locator("#run-b").focus()
    visit.page.keyboard.press("End")
    assert "tokenizer.align.beta" in visit.page.locator("#difference").inner_text()


def test_a_legend_entry_hides_and_shows_its_series(visit: Visit) -> None:
    figure = visit.page.locator("#figure-table4-table4_popularity")
    key = figure.locator(".key").first
    figure.scroll_into_view_if_needed()
    figure.locator("svg").first.wait_for()
    symbols = figure.locator("svg .mark-symbol path")
    before = symbols.count()
    key.focus()
    visit.page.keyboard.press("Enter")
    assert key.get_attribute("aria-pressed") == "false"
    visit.page.wait_for_function("([e, n]) => e.querySelectorAll('svg .mark-symbol path').length < n",
                                 arg=[figure.element_handle(), before])  # fmt: skip
    key.click()
    visit.page.wait_for_function("([e, n]) => e.querySelectorAll('svg .mark-symbol path').length === n",
                                 arg=[figure.element_handle(), before])  # fmt: skip


CONTRAST = """
selectors => {
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const ground = e => {
    const c = rgb(getComputedStyle(e).backgroundColor);
    return c.length > 3 && c[3] === 0 ? ground(e.parentElement) : c;
  };
  return selectors.flatMap(s => [...document.querySelectorAll(s)].filter(e => e.offsetParent).slice(0, 40).map(e => {
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
    return [s, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }));
}
"""
"""WCAG 2 contrast of text against the ground it stands on."""

TEXTS = [
    "body",
    ".quiet",
    ".std",
    ".paper",
    ".tag",
    "caption",
    "dt",
    "dd",
    "summary",
    ".key",
    ".panel-title",
    ".reason",
] + [".results td", ".results th", ".best .mean", ".toc a", "#difference td", ".notes li"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(browser: Any, page_file: Path, scheme: str) -> None:
    visit = Visit(browser, page_file, color_scheme=scheme)
    system = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    for _ in range(2):  # what the system prefers, then the other by the button
        visit.page.locator("details.asides summary").first.click()
        low = [found for found in visit.page.evaluate(CONTRAST, TEXTS) if found[1] < 4.5]
        assert low == []
        visit.page.locator("#theme").click()
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == system
    visit.page.locator("#theme").click()
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") != system
    visit.context.close()


def test_a_phone_scrolls_the_tables_and_not_the_page(browser: Any, page_file: Path) -> None:
    visit = Visit(browser, page_file, viewport={"width": 375, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 375
    box = visit.page.locator("#grid-table4 .scroll").first
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    name = visit.page.locator("#table-table4 tbody th").first
    before = name.bounding_box()
    box.evaluate("e => { e.scrollLeft = 200; }")
    assert name.bounding_box()["x"] == pytest.approx(before["x"], abs=1)  # the first column stays
    visit.context.close()


def test_tab_reaches_the_controls_and_shows_where_it_is(visit: Visit) -> None:
    visit.page.reload()
    reached = []
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        reached.append(visit.page.evaluate("document.activeElement.className || document.activeElement.id"))
    assert reached[0] == "skip"
    assert {"filter", "sort", "pick", "scroll"} <= set(reached)
    visit.page.locator("#theme").focus()
    visit.page.keyboard.press("Tab")
    outline = visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_pictures_have_words_and_tables_captions(visit: Visit) -> None:
    unnamed = visit.page.evaluate(
        "[...document.querySelectorAll('img, [role=img], figure, nav, section')].filter(e => "
        "!(e.getAttribute('alt') || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby'))).length"
    )
    assert unnamed == 0
    assert visit.page.evaluate("[...document.querySelectorAll('main table')].filter(t => !t.caption).length") == 0
    assert visit.page.evaluate("[...document.querySelectorAll('main th')].filter(h => !h.scope).length") == 0
    assert visit.page.evaluate("document.querySelectorAll('main, header, nav').length") == 3
    ids = visit.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_print_leaves_controls_out_and_is_dark_on_light(browser: Any, page_file: Path) -> None:
    visit = Visit(browser, page_file, color_scheme="dark")
    visit.page.emulate_media(media="print")
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert visit.page.locator(".tools:visible, .toc:visible, .top:visible, .pick:visible").count() == 0
    assert visit.page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert visit.page.pdf(prefer_css_page_size=True)[:4] == b"%PDF"
    visit.context.close()


def test_hostile_names_stay_text(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render(hostile_page()))
    visit = Visit(browser, tmp_path / "page.html")
    assert visit.page.evaluate("window.hacked") is None
    assert visit.page.locator("h1").inner_text() == HOSTILE
    assert visit.said == []
    visit.context.close()
