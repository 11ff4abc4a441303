"""Links from a page into the repository, and the files behind them that the site shows as pages of its own.

Pages link as they would on a code host: ``../experiments/reports/...``. Committed reports, grids and the files a
repository keeps at its root are part of the site, so such a link leads to them; any other target is a warning, which
ends a strict build.
"""

from __future__ import annotations

import ast
import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

log = logging.getLogger("mkdocs.hooks.repository")

ROOT = Path(__file__).resolve().parents[2]
ROOT_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
FOLDERS = {"conf": "config/index.md", "experiments": "grids.md"}
SHOWN = {".md", ".csv", ".png", ".svg", ".tex"}
MARKUP = re.compile(
    r"^```.*?^```"  # code is left alone
    r"|(?P<open>!?\[(?:[^\]`]|`[^`]*`)*\]\()(?P<target>[^)\s#]+)(?P<rest>(?:#[^)\s]*)?(?:\s+\"[^\"]*\")?\))"
    r"|`[^`\n]+`",
    re.MULTILINE | re.DOTALL,
)


def shown_files(root: Path = ROOT) -> dict[str, str]:
    """Where the site shows a file of the repository: page or asset by path from the root."""
    places = {name: page for name, page in ROOT_PAGES.items() if (root / name).is_file()}
    for path in sorted((root / "experiments" / "reports").rglob("*")):
        if path.is_file() and path.suffix in SHOWN:
            inside = path.relative_to(root / "experiments").as_posix()
            places[path.relative_to(root).as_posix()] = inside.replace("README.md", "index.md")
    for path in sorted((root / "experiments").glob("*.yaml")):
        places[f"experiments/{path.name}"] = f"grids/{path.stem}.md"
    for path in sorted(root.glob("examples/**/*.py")):
        places[path.relative_to(root).as_posix()] = path.relative_to(root).with_suffix(".md").as_posix()
    for path in sorted(root.glob("examples/**/*.md")):
        inside = path.relative_to(root).as_posix()
        places[inside] = inside.replace("README.md", "index.md")
    return places


def on_config(config: Any, **_: Any) -> Any:
    """Puts every committed report and every example into the navigation, where mkdocs.yml leaves a place.

    A page of ``docs`` that mkdocs.yml does not name comes last below "Use it", under its own heading.
    """
    named = set(_pages(config.nav or []))
    unnamed = [path.name for path in sorted(Path(config.docs_dir).glob("*.md")) if path.name not in named]
    for tab in config.nav or []:
        for name, entries in tab.items():
            if isinstance(entries, list):
                tab[name] = [_filled(entry) for entry in entries] + (unnamed if name == "Use it" else [])
    return config


def _pages(nav: Any) -> Iterator[str]:
    """Every page that a navigation names."""
    if isinstance(nav, str):
        yield nav
    for below in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _pages(below)


def _filled(entry: Any) -> Any:
    if entry == {"Reports": "reports"}:
        return {"Reports": _reports()}
    return {"Examples": _examples()} if entry == {"Examples": "examples"} else entry


def _examples() -> list[dict[str, str] | str]:
    """Scripts by the first clause of what they say of themselves."""
    found: list[dict[str, str] | str] = []
    for source, place in shown_files().items():
        if source.endswith(".py"):
            found.append({re.split(r"[,:.(]", _title(ROOT / source))[0]: place})
        elif place.startswith("examples/"):
            found.append(place)
    return found


def _title(script: Path) -> str:
    """First line of a script's docstring."""
    return (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem).splitlines()[0]


def _reports() -> list[dict[str, list[Any]]]:
    folders: dict[str, list[Any]] = {}
    for place in sorted(
        place for place in shown_files().values() if place.startswith("reports/") and place.endswith(".md")
    ):
        _, folder, name = place.split("/")
        title = re.sub(r"^(table|figure)(\d)$", r"\1 \2", name.removesuffix(".md")).capitalize()
        folders.setdefault(_titled(folder), []).append(place if name == "index.md" else {title: place})
    return [{folder: pages} for folder, pages in folders.items()]


def _titled(folder: str) -> str:
    """``beauty-seed0`` as "Beauty, seed 0", ``beauty-seed0-slots`` as "Beauty, seed 0 slots"."""
    return re.sub(r"-seed(\d+)", r", seed \1", folder).replace("-", " ").capitalize()


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds what `shown_files` names."""
    places = shown_files()
    for source, place in places.items():
        files.append(_file(config, ROOT / source, source, place))
    files.append(File.generated(config, "grids.md", content=_list_of_grids(places)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files, **_: Any) -> str:
    """Links out of ``docs`` lead to where the site shows their target."""
    places = shown_files()
    source = next((name for name, place in places.items() if place == page.file.src_uri), f"docs/{page.file.src_uri}")
    if source.endswith((".yaml", ".py")):
        return markdown
    here = posixpath.dirname(page.file.src_uri)

    def led(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or "://" in target or target.startswith(("mailto:", "/")):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = _place(path, places, files)
        if place is None:
            log.warning("%s: the link to %s leads to %s, which the site does not show", source, target, path)
            return found[0]
        return f"{found['open']}{posixpath.relpath(place, here or '.')}{found['rest']}"

    return MARKUP.sub(led, markdown)


def _place(path: str, places: dict[str, str], files: Files) -> str | None:
    """Source path within the site of a path from the repository's root; None where the site lacks it."""
    if path.startswith("docs/") and files.get_file_from_path(path.removeprefix("docs/")):
        return path.removeprefix("docs/")
    if path in places:
        return places[path]
    if path in FOLDERS:
        return FOLDERS[path]
    if path.startswith("conf/"):
        return f"config/{path.split('/')[1]}.md" if (ROOT / path).exists() else None
    inside = f"{path}/"
    return next((page for name, page in places.items() if name.startswith(inside) and page.endswith("index.md")), None)


def _file(config: Any, path: Path, source: str, place: str) -> File:
    if path.suffix in {".yaml", ".py"}:
        language = {".yaml": "yaml", ".py": "python"}[path.suffix]
        text = path.read_text(encoding="utf-8").rstrip()
        title = _title(path) if path.suffix == ".py" else f"`{source}`"
        return File.generated(config, place, content=f"# {title}\n\n`{source}`\n\n```{language}\n{text}\n```\n")
    if path.suffix == ".md":
        return File.generated(config, place, content=path.read_text(encoding="utf-8") + _beside(path))
    return File.generated(config, place, abs_src_path=str(path))


def _beside(report: Path) -> str:
    """Pictures and files of a committed report, which its text does not name."""
    if "reports" not in report.parts:
        return ""
    mine = [path for path in sorted(report.parent.glob(f"{report.stem}[._]*")) if path.suffix in SHOWN - {".md"}]
    pictures = [path for path in mine if path.suffix == ".svg"]
    files = [path for path in mine if path.suffix in {".csv", ".tex"}]
    shown = [f"![{path.stem.replace('_', ' by ')}]({path.name})\n" for path in pictures]
    named = [", ".join(f"[{path.name}]({path.name})" for path in files)] if files else []
    return "\n\n## Figures and files\n\n" + "\n".join(shown + named) + "\n" if mine else ""


def _list_of_grids(places: dict[str, str]) -> str:
    lines = ["# Grids", "", "What each command of [Reproducing](reproduce.md) runs, line by line.", ""]
    for source in sorted(name for name in places if name.endswith(".yaml")):
        text = (ROOT / source).read_text(encoding="utf-8")
        title = next(
            line.split(":", 1)[1].strip().strip('"') for line in text.splitlines() if line.startswith("title:")
        )
        name = PurePosixPath(source).stem
        lines.append(f"- [`{name}`](grids/{name}.md): {title}")
    return "\n".join(lines) + "\n"
