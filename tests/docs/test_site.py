"""The documentation site: built strict, then looked through link by link, and held against what it speaks of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
MARKDOWN = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("examples/**/*.md"),
        *(ROOT / ".github").rglob("*.md"),
    ]
)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
SPECIAL = {"_target_", "_partial_", "_convert_"}


@dataclass
class Page(HTMLParser):
    """What a page names, what it leads to and what it has a browser fetch."""

    names: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    codes: dict[str, set[str]] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.section = ""
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {key: value or "" for key, value in attrs}
        if "id" in said:
            self.names.add(said["id"])
        if tag in ("h1", "h2", "h3") and "id" in said:
            self.section = said["id"]
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        if tag == "link" and said.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(said.get("href", ""))
        if tag in ("script", "img", "iframe", "source", "object", "embed") and "src" in said:
            self.fetched.append(said["src"])
        self.inside = tag == "code"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside:
            self.codes.setdefault(self.section, set()).add(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning an error."""
    if find_spec("mkdocs") is None:
        pytest.skip("the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    said = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Every page, read."""
    found = {}
    for path in sorted(site.rglob("*.html")):
        found[path] = Page()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def test_every_link_and_anchor_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("/"):  # 404.html alone links from the root
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names | {"__top"}:
                broken.append(f"{path.relative_to(site)}: {link} (no such anchor)")
    assert not broken, "\n".join(broken)


def test_reading_fetches_nothing_from_a_network(site: Path, pages: dict[Path, Page]) -> None:
    fetched = [f"{path.name}: {link}" for path, page in pages.items() for link in page.fetched if urlsplit(link).netloc]
    styles = [*site.rglob("*.css"), *(ROOT / "docs").rglob("*.css")]
    fetched += [
        f"{path.name}: {found}"
        for path in styles
        for found in re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']+", path.read_text(encoding="utf-8"))
    ]
    assert not fetched, "\n".join(fetched)


def test_equations_are_mathml_and_no_latex_is_left(pages: dict[Path, Page]) -> None:
    spoken = {path.stem: path.read_text(encoding="utf-8") for path in pages if path.parent.name == "methods"}
    for name in (
        "ada-sid",
        "rq-vae",
        "opq",
        "rq-kmeans",
        "letter",
        "das",
        "mm-rq-vae",
        "mmq-v1",
        "rq-vae-pp",
        "item-id",
    ):
        assert "<math" in spoken[name] or name == "item-id", name
    left = [path.name for path, page in pages.items() if "$$" in page.text or "\\frac" in page.text]
    assert not left


def test_every_option_and_key_of_conf_stands_in_the_reference(site: Path, pages: dict[Path, Page]) -> None:
    missing = []
    for path in sorted(CONF.rglob("*.yaml")):
        group = path.parent.relative_to(CONF).parts
        page = pages[site / "config" / (f"{group[0]}.html" if group else "index.html")]
        anchor = "-".join((*group[1:], path.stem)) if group else "keys-of-the-run-itself"
        if anchor not in page.names:
            missing.append(f"{path.relative_to(ROOT)}: no section")
            continue
        shown = page.codes.get(anchor, set())
        for key, value in leaves(yaml.safe_load(path.read_text(encoding="utf-8")) or {}):
            if not any(name == key or name.endswith(f".{key}") for name in shown):
                missing.append(f"{path.relative_to(ROOT)}: {key}")
            if (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and not any(_same(name, value) for name in shown)
            ):
                missing.append(f"{path.relative_to(ROOT)}: {key} = {value}")
    assert not missing, "\n".join(missing)


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values, of what a yaml sets itself."""
    for key, value in tree.items():
        if key in SPECIAL or (key == "defaults" and not prefix):
            continue
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _same(shown: str, value: float) -> bool:
    try:
        return float(shown) == value
    except ValueError:
        return False


def test_the_reference_says_how_to_choose_each_group() -> None:
    # The independent reference is Hydra itself: every printed place composes with the group's choices.
    if find_spec("mkdocs") is None:
        pytest.skip("the extra docs is not installed")
    sys.path.insert(0, str(ROOT / "docs" / "hooks"))
    from config_reference import _override, read_options, where_groups_stand

    options = read_options()
    mounts = where_groups_stand(options)
    assert set(mounts) == {option.group for option in options} - {""}, (
        "a group that nothing can choose, or that is none"
    )

    def context(group: str, place: str) -> list[str]:
        """What must be chosen for the group to stand at ``place``: nothing if it does so by default."""
        if any(not parent for parent, _, _ in mounts[group][place].by):
            return []
        ways = []
        for parent, name, _ in mounts[group][place].by:
            where = next(at for at in mounts[parent] if place == at or place.startswith(f"{at}."))
            usual = any(choice == name for _, _, choice in mounts[parent][where].by)
            ways.append([*context(parent, where), *([] if usual else [f"{_override(parent, where)}={name}"])])
        return min(ways, key=len)

    # What stands there anyway is chosen again, so that all places of one context fit into one composition.
    together: dict[tuple[str, ...], list[str]] = {}
    for group, places in mounts.items():
        for place, mount in places.items():
            choice = mount.by[0][2].replace("${data}", "toy")
            together.setdefault(tuple(context(group, place)), []).append(f"{_override(group, place)}={choice}")
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        for chosen, again in together.items():
            compose("config", overrides=[*chosen, *(each for each in again if each not in chosen)])


@pytest.mark.parametrize("path", MARKDOWN, ids=[str(path.relative_to(ROOT)) for path in MARKDOWN])
def test_links_between_files_of_the_repository(path: Path) -> None:
    broken = []
    for found in LINK.finditer(CODE.sub("", path.read_text(encoding="utf-8"))):
        target, _, anchor = found["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (path.parent / unquote(target)).resolve() if target else path
        if not file.exists():
            broken.append(f"{found['target']}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            broken.append(f"{found['target']}: no such heading")
    assert not broken, "\n".join(broken)


def anchors(path: Path) -> set[str]:
    """What a code host names the headings of a page."""
    headings = re.findall(
        r"^#{1,6} +(.+?)(?: *\{#[\w-]+\})?$", CODE.sub(_kept, path.read_text(encoding="utf-8")), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def _kept(found: re.Match[str]) -> str:
    return "" if found[0].startswith("```") else found[0].strip("`")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("ADASID_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium; name one by ADASID_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_from_files_on_phone_and_desk(site: Path, browser: Any, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, troubles = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    for name in ("index", "methods/ada-sid", "config/tokenizer", "faq", "reports/beauty-seed0/table2"):
        page.goto((site / f"{name}.html").as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px wider than a screen of {width}"
        shown = page.evaluate("getComputedStyle(document.body).getPropertyValue('--md-default-bg-color')")
        assert ("#fff" in shown.lower() or "100%" in shown) == (scheme == "light"), shown
    assert not troubles
    assert not [url for url in asked if urlsplit(url).scheme in ("http", "https")]
    page.close()


def test_equations_fit_their_column_on_a_desk(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    found = "[...document.querySelectorAll('.equation')].some(each => each.scrollWidth > each.clientWidth + 1)"
    wide = []
    for path in [*sorted(site.glob("methods/*.html")), *(site / f"{name}.html" for name in ("retrieval", "metrics"))]:
        page.goto(path.as_uri())
        wide += [path.name] if page.evaluate(found) else []
    page.close()
    assert not wide


def test_search_works_without_a_server(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((site / "methods" / "das.html").as_uri())
    page.click("input.md-search__input")
    page.wait_for_function("document.querySelectorAll('iframe').length > 0")
    page.wait_for_timeout(500)
    page.keyboard.type("straight-through", delay=20)
    page.wait_for_selector(".md-search-result__link", timeout=20_000)
    assert "straight" in page.inner_text(".md-search-result").lower()
    page.close()
