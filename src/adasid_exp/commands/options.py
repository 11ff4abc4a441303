"""What conf/ offers, read from the files alone: groups, their options with a line each, where a group may be chosen.

Nothing is composed, so that ``--help`` answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

SENTENCE = re.compile(r"\.\s+(?=[A-Z`(])")
"""Between two sentences; not behind ``Eq.`` of ``Eq. 14``."""

KEY = re.compile(r"^(?P<name>[a-z_]\w*):\s*(?P<value>[^#]*?)\s*(?:#\s*(?P<note>.*))?$")
"""A key of the file's top level with the comment behind it."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One file of a group.

    Attributes:
        name: as chosen.
        line: first sentence of the file's comment.
    """

    name: str
    line: str


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of config.yaml itself: its default as written and the comment behind it."""

    name: str
    default: str
    line: str


@dataclass(frozen=True)
class Conf:
    """A tree of configuration files.

    Attributes:
        root: its folder, with config.yaml.
    """

    root: Path

    @cached_property
    def groups(self) -> dict[str, list[Option]]:
        """Options by group, groups as ``align`` or ``align/pairing``, all in alphabetical order."""
        folders = sorted({path.parent for path in self.root.rglob("*.yaml")} - {self.root})
        return {
            folder.relative_to(self.root).as_posix(): [
                Option(name=path.stem, line=first_sentence(path)) for path in sorted(folder.glob("*.yaml"))
            ]
            for folder in folders
        }

    @cached_property
    def chosen(self) -> dict[str, str]:
        """The option that config.yaml chooses, by group."""
        return {group: option for group, package, option in defaults_of(self.root / "config.yaml") if package is None}

    @cached_property
    def keys(self) -> list[Key]:
        """The keys of config.yaml that are no groups."""
        found = [KEY.match(line) for line in (self.root / "config.yaml").read_text(encoding="utf-8").splitlines()]
        return [
            Key(name=match["name"], default=match["value"], line=match["note"] or "")
            for match in found
            if match and match["name"] not in ("defaults", "hydra")
        ]

    @cached_property
    def places(self) -> dict[str, list[str]]:
        """What to write in front of ``=OPTION``, by group: ``tokenizer``, ``align@tokenizer.align``."""
        found: dict[str, list[str]] = {}
        for group in self.groups:
            packages = sorted(package.split("_global_.")[-1] for package in self._packages(group, frozenset()))
            found[group] = [group if package == group else f"{group}@{package}" for package in dict.fromkeys(packages)]
        return found

    @cached_property
    def _users(self) -> dict[str, list[tuple[str, str]]]:
        """By group: the groups whose files choose from it, and the package within theirs that they put it at."""
        users: dict[str, list[tuple[str, str]]] = {}
        for user in self.groups:
            for path in sorted((self.root / user).glob("*.yaml")):
                for group, package, _ in defaults_of(path):
                    absolute = group.startswith("/")
                    name = group.lstrip("/") if absolute else f"{user}/{group}"
                    if name in self.groups and (package or not absolute):
                        users.setdefault(name, []).append((user, package or group))
        return users

    def _packages(self, group: str, seen: frozenset[str]) -> set[str]:
        """Where in the configuration options of a group may stand."""
        own = {group} if group in self.chosen else set()
        for user, package in self._users.get(group, []):
            if user not in seen:
                own |= {f"{above}.{package}" for above in self._packages(user, seen | {group})}
        return own


def first_sentence(path: Path) -> str:
    """First sentence of the comment that a file starts with; empty where there is none."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# "))
    return SENTENCE.split(" ".join(words), maxsplit=1)[0].rstrip(".")


def defaults_of(path: Path) -> Iterator[tuple[str, str | None, str]]:
    """Group, package (if written) and option of each choice that a file's defaults list adds."""
    tree: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for entry in tree.get("defaults", []):
        name, option = next(iter(entry.items())) if isinstance(entry, dict) else (str(entry), None)
        if option is not None and not name.startswith("override "):
            group, _, package = name.partition("@")
            yield group, package or None, str(option)
