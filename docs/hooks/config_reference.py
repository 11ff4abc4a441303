"""Pages of the configuration, made from ``conf/`` when the site is built: every group, option, key, default, comment.

Nothing of them is written by hand. What a yaml's comment leaves open is taken from the docstring of the class that the
yaml builds.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import griffe
import yaml
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
FOLDER = "config"
INDEX = f"{FOLDER}/index.md"
FIT = "tokenizer_fit"
CONVENTIONS = {
    "name": "stands in the names of artifacts and in reports",
    "inputs": "what of the run's data the class is given, beside the keys below",
}
DOCS_PAGE = re.compile(r"docs/(?P<name>[\w\\-]+\.md)")
LONGEST = 160
"""Letters of a default that are shown."""
SPECIAL = {"_target_", "_partial_", "_convert_"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a yaml: its dotted path, what stands there, and what is said of it."""

    path: str
    default: str
    comment: str


@dataclass(frozen=True, kw_only=True)
class Option:
    """One yaml of ``conf/``.

    Attributes:
        group, name: what stands on either side of ``=`` on the command line; group "" is ``config.yaml``.
        about: the comment at its head.
        everywhere: whether its keys stand at the top of the configuration (``@package _global_``).
        defaults: other choices it starts from, ``(group, package below its own, choice, whether it overrides)``.
        keys: what it sets itself.
        targets: class that is built, by dotted path ("" is the yaml itself).
    """

    group: str
    name: str
    about: str
    everywhere: bool
    defaults: tuple[tuple[str, str, str, bool], ...]
    keys: tuple[Key, ...]
    targets: Mapping[str, str]


@dataclass(kw_only=True)
class Mount:
    """Where a group may stand in a configuration, and who puts it there by which choice."""

    package: str
    by: list[tuple[str, str, str]] = field(default_factory=list)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds the pages."""
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_config(config: Any, **_: Any) -> Any:
    """Puts the pages of the groups below "Config reference" in the navigation."""
    groups = sorted(place for place in pages() if place != INDEX)
    for entry in _entries(config.nav or []):
        if entry.get("Config reference") == INDEX:
            entry["Config reference"] = [INDEX, *groups]
    return config


def _entries(nav: list[Any]) -> Iterator[dict[str, Any]]:
    """Every titled entry of a navigation, at any depth."""
    for entry in nav:
        if isinstance(entry, dict):
            yield entry
            for below in list(entry.values()):
                if isinstance(below, list):
                    yield from _entries(below)


@cache
def pages(conf: Path = CONF) -> dict[str, str]:
    """Markdown of every page by its place in the site."""
    options = read_options(conf)
    mounts = where_groups_stand(options)
    groups: dict[str, list[Option]] = {}
    for option in options:
        groups.setdefault(option.group, []).append(option)
    tops = sorted({group.split("/")[0] for group in groups if group})
    made = {INDEX: _index(groups, mounts, tops)}
    for top in tops:
        parts = [group for group in sorted(groups) if group.split("/")[0] == top]
        made[f"{FOLDER}/{top}.md"] = "\n".join(_group(group, groups[group], mounts, top) for group in parts)
    return made


# Reading


@cache
def read_options(conf: Path = CONF) -> list[Option]:
    """Every yaml below ``conf``."""
    return [_option(path, path.relative_to(conf)) for path in sorted(conf.rglob("*.yaml"))]


def _option(path: Path, inside: Path) -> Option:
    text = path.read_text(encoding="utf-8")
    group = inside.parent.as_posix() if inside.parent != Path() else ""
    head = [line for line in _head(text) if not line.startswith("@package")]
    tree = yaml.safe_load(text) or {}
    node = yaml.compose(text)
    found = list(_walk(node, "", text)) if node is not None else []
    return Option(
        group=group,
        name=inside.stem,
        about=" ".join(head),
        everywhere="@package _global_" in text,
        defaults=tuple(_default(entry, group) for entry in tree.get("defaults", []) if entry != "_self_"),
        keys=tuple(entry for entry in found if isinstance(entry, Key)),
        targets=dict(entry for entry in found if isinstance(entry, tuple)),
    )


def _head(text: str) -> list[str]:
    """Lines of the comment that a yaml begins with."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[1:].strip())
    return lines


def _default(entry: Any, own: str) -> tuple[str, str, str, bool]:
    """Group, package below the yaml's own, choice, whether it overrides, of one line of a defaults list."""
    if isinstance(entry, str):
        return own, "", entry, False
    ((key, choice),) = entry.items()
    overrides = key.startswith("override ")
    key = key.removeprefix("override ")
    group, _, package = key.partition("@")
    relative = not group.startswith("/")
    name = f"{own}/{group}" if relative and own else group.lstrip("/")
    return name, package or (group if relative else group.lstrip("/")), str(choice), overrides


def _walk(node: yaml.Node, prefix: str, text: str) -> Iterator[Key | tuple[str, str]]:
    """Keys with their comments, and ``(path, class)`` for each ``_target_``."""
    lines = text.splitlines()
    for key, value in node.value:
        name = key.value
        path = f"{prefix}.{name}" if prefix else name
        if name == "defaults" and not prefix:
            continue
        if name == "_target_":
            yield prefix, value.value
        elif name in SPECIAL:
            continue
        elif isinstance(value, yaml.MappingNode) and value.value:
            said = _comment(lines, key, value)
            if said:
                yield Key(path=path, default="", comment=said)
            yield from _walk(value, path, text)
        else:
            shown = " ".join(text[value.start_mark.index : value.end_mark.index].split())
            yield Key(path=path, default=shown, comment=_comment(lines, key, value))


def _comment(lines: list[str], key: yaml.Node, value: yaml.Node) -> str:
    """What is said of a key: comment lines right above it, then what follows it on its line."""
    first = key.start_mark.line
    above = []
    while first - 1 - len(above) >= 0 and lines[first - 1 - len(above)].lstrip().startswith("#"):
        above.append(lines[first - 1 - len(above)].lstrip()[1:].strip())
    if len(above) == first:  # the head of the file speaks of the whole
        above = []
    inline = key.end_mark if value.start_mark.line > first else value.end_mark
    behind = lines[inline.line][inline.column :].lstrip(": ").strip() if inline.line < len(lines) else ""
    own = [behind[1:].strip()] if behind.startswith("#") else []
    return " ".join([*reversed(above), *own])


def where_groups_stand(options: list[Option]) -> dict[str, dict[str, Mount]]:
    """Packages at which each group can be chosen: by group, then package."""
    mounts: dict[str, dict[str, Mount]] = {}
    root = next(option for option in options if not option.group)
    waiting = [(root, "")]
    seen = set()
    while waiting:
        option, package = waiting.pop()
        if (option.group, option.name, package) in seen:
            continue
        seen.add((option.group, option.name, package))
        for group, below, choice, overrides in option.defaults:
            if overrides or group.startswith("hydra"):
                continue
            at = package if group == option.group and not below else ".".join(part for part in (package, below) if part)
            if group != option.group:
                mount = mounts.setdefault(group, {}).setdefault(at, Mount(package=at))
                mount.by.append((option.group, option.name, choice))
            waiting += [(other, at) for other in options if other.group == group]
    return mounts


# What classes say of their arguments


@cache
def arguments(target: str) -> Mapping[str, str]:
    """What the docstring of a class of this project (and of its bases) says of each argument."""
    module, _, name = target.rpartition(".")
    path = ROOT / "src" / (module.replace(".", "/") + ".py")
    if not path.is_file():
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = next(
        (node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name), None
    )
    if node is None:
        return {}
    found: dict[str, str] = {}
    for base in getattr(node, "bases", []):
        found |= arguments(_origin(tree, module, ast.unparse(base)))
    for section in griffe.Docstring(ast.get_docstring(node) or "").parse("google", warnings=False):
        if section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes):
            for argument in section.value:
                said = " ".join(argument.description.split())
                names = [part.strip() for part in argument.name.split(",")]
                found |= {part: said for part in names if not (said.startswith("as in ") and part in found)}
    return found


def _origin(tree: ast.Module, module: str, name: str) -> str:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return f"{node.module}.{name}"
    return f"{module}.{name}"


def meaning(option: Option, key: Key, options: list[Option]) -> str:
    """What is said of a key: by its own comment, the class that is built, or the same key of another choice."""
    return key.comment or _by_class(option, key) or _by_others(option, key, options) or CONVENTIONS.get(key.path, "")


def _by_class(option: Option, key: Key) -> str:
    """What the docstring of the nearest class above a key says of the argument."""
    place, _, name = key.path.rpartition(".")
    while place not in option.targets:
        if not place:
            return ""
        place, _, name = place.rpartition(".")
    said = arguments(option.targets[place]).get(name, "")
    return said[:1].lower() + said[1:] if said[:2].istitle() else said


def _by_others(option: Option, key: Key, options: list[Option]) -> str:
    """The comment on the same key in another choice of the group; of ``fit``, in the group that says how one trains."""
    path = key.path.removeprefix("fit.") if key.path.startswith("fit.") else key.path
    group = option.group if path == key.path else FIT
    others = (other for other in options if other.group == group)
    return next((found.comment for other in others for found in other.keys if found.path == path and found.comment), "")


# Writing


def _index(groups: Mapping[str, list[Option]], mounts: Mapping[str, Mapping[str, Mount]], tops: list[str]) -> str:
    (root,) = groups[""]
    lines = [
        "# Config reference",
        "",
        "Made from `conf/` when this site is built. A run is one choice of each group below and any number of",
        "overrides: `python -m adasid_exp GROUP=CHOICE key=value`, with keys as they stand in the tables. A default",
        "`${key}` is the value of that other key: change it there, and it changes for all that share it.",
        "",
        "## What a run chooses",
        "",
        "| group | default | choices |",
        "|---|---|---|",
    ]
    chosen = [(group, choice) for group, _, choice, overrides in root.defaults if not overrides and group in groups]
    lines += [
        f"| [`{group}`]({group}.md) | `{choice}` | {_names(groups[group], group, group)} |" for group, choice in chosen
    ]
    lines += ["", "## Parts of a choice", "", "Chosen with their place: `GROUP@PLACE=CHOICE`.", ""]
    lines += ["| group | place | choices |", "|---|---|---|"]
    for group in sorted(set(groups) - {""} - {name for name, _ in chosen}):
        top = group.split("/")[0]
        places = "<br>".join(f"`{_override(group, place)}`" for place in sorted(mounts.get(group, {}))) or "–"
        lines.append(f"| [`{group}`]({top}.md#{_anchor(group)}) | {places} | {_names(groups[group], group, top)} |")
    lines += ["", "## Keys of the run itself", "", *_table(root, ""), ""]
    return "\n".join(lines)


def _names(options: list[Option], group: str, top: str) -> str:
    return ", ".join(f"[`{option.name}`]({top}.md#{_anchor(group, option.name)})" for option in options)


def _anchor(group: str, name: str = "") -> str:
    """Anchor of a group or one of its choices on the group's page."""
    return "-".join(part for part in (*group.split("/")[1:], name) if part) or "group"


def _override(group: str, place: str) -> str:
    return group if place == group.replace("/", ".") else f"{group}@{place}"


def _group(group: str, options: list[Option], mounts: Mapping[str, Mapping[str, Mount]], top: str) -> str:
    own = group == top
    lines = [f"{'#' if own else '##'} `{group}` {{#{_anchor(group)}}}", ""]
    places = mounts.get(group, {})
    for place in sorted(places):
        by = sorted({(other, name) for other, name, _ in places[place].by if other})
        usual = sorted({choice for other, _, choice in places[place].by if not other})
        where = " and ".join(f"`{other}={name}`" for other, name in by)
        said = f"of {where}" if where else f"default: `{', '.join(usual)}`"
        lines.append(f"- `{_override(group, place)}=CHOICE` ({said})")
    lines += ["", "| choice | |", "|---|---|"]
    lines += [
        f"| [`{option.name}`](#{_anchor(group, option.name)}) | {_cell(_said(option.about))} |" for option in options
    ]
    for option in options:
        lines += ["", *_option_lines(option, mounts, own)]
    return "\n".join(lines) + "\n"


def _option_lines(option: Option, mounts: Mapping[str, Mapping[str, Mount]], own: bool) -> list[str]:
    lines = [f"{'##' if own else '###'} `{option.name}` {{#{_anchor(option.group, option.name)}}}", ""]
    if option.about:
        lines += [_said(option.about), ""]
    if "" in option.targets:
        lines += [f"Builds `{option.targets['']}`.", ""]
    for words, others in (("Starts from", False), ("Chooses", True)):
        if chosen := [_start(option, entry) for entry in option.defaults if entry[3] == others]:
            lines += [f"{words} {', '.join(chosen)}.", ""]
    places = sorted(mounts.get(option.group, {}))
    prefix = "" if option.everywhere else f"{places[0]}." if len(places) == 1 else ""
    if option.keys:
        lines += _table(option, prefix)
    return lines


def _start(option: Option, entry: tuple[str, str, str, bool]) -> str:
    group, _, choice, _ = entry
    top = group.split("/")[0]
    shown = f"`{choice}`" if group == option.group else f"`{group}: {choice}`"
    if group.startswith("hydra") or "$" in choice:
        return shown
    return f"[{shown}]({top}.md#{_anchor(group, choice)})"


def _table(option: Option, prefix: str) -> list[str]:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key in option.keys:
        shown = key.default if len(key.default) <= LONGEST else f"{key.default[:LONGEST]} …"
        default = f"`{shown}`" if shown else ""
        rows.append(
            f"| `{prefix}{key.path}` | {_cell(default)} | {_cell(_said(meaning(option, key, read_options())))} |"
        )
    return rows


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\|", text)


def _said(text: str) -> str:
    """A comment as Markdown: what is no code is no markup either, and a page that it names is a link."""
    parts = re.split(r"(`[^`]*`)", text)
    plain = (html.escape(part, quote=False).replace("*", r"\*").replace("_", r"\_") for part in parts[::2])
    linked = [DOCS_PAGE.sub(_link, part) for part in plain]
    return "".join(part for pair in zip_longest(linked, parts[1::2], fillvalue="") for part in pair)


def _link(found: re.Match[str]) -> str:
    name = found["name"].replace("\\", "")
    return f"[{name}](../{name})" if (ROOT / "docs" / name).is_file() else found[0]
