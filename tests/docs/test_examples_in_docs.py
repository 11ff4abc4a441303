"""What README and docs tell a reader to type: Python runs, commands compose, targets exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from adasid_exp.commands import data, forward, table
from adasid_exp.commands.adasid import COMMANDS
from adasid_exp.stages.grid import load_grid
from adasid_exp.stages.locations import CONF
from adasid_exp.types import UserError

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/**/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`[\w/.-]+\.\w+`:?\s*\Z")
"""What stands before a block that is a file of its own, which another test writes where it belongs."""
SPAN = re.compile(r"`(?P<text>(?:python -m adasid_exp|adasid|make) [^`]+)`")
FREE = re.compile(r"(?:seed|runs|stage\.(?:seeds|jobs|results|methods)|data\.root|trainer\.devices)=[\w./,:\[\]-]+\Z")
"""Keys of every run whose value is anyone's: leaving them out makes one composition serve many lines."""
ANYTHING = {"...", "…", "COMMAND", "TARGET"}
WRITTEN = {"random_slices", "text_audio", "text_spelling"}
"""Options that a page has its reader write."""
PLACEHOLDERS = {"GROUP=CHOICE", "GROUP=OPTION", "KEY=VALUE", "key=value", "GROUP@PLACE=CHOICE"}
"""Stand for any group, choice, key and value."""


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """Language, text and what stands before each fenced block."""
    for found in FENCE.finditer(text):
        indent = len(found["indent"])
        yield (
            found["language"],
            re.sub(rf"^ {{{indent}}}", "", found["text"], flags=re.MULTILINE),
            text[: found.start()],
        )


def commands(text: str) -> list[str]:
    """Lines that begin with ``make``, ``adasid`` or the module, also behind torchrun and srun; comments cut off."""
    found = []
    for language, block, _ in blocks(text):
        if language in ("", "bash", "sh", "console", "text"):
            lines = re.sub(r"\\\n\s*", " ", block).splitlines()
            found += [re.split(r"\s#", line.strip().removeprefix("$ "), maxsplit=1)[0].strip() for line in lines]
    outside = FENCE.sub("", text)
    found += [" ".join(match["text"].split()) for match in SPAN.finditer(outside)]
    starts = ("make ", "adasid ", "python -m adasid_exp", "torchrun ", "srun ")
    return [line for line in dict.fromkeys(found) if line.startswith(starts)]


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_python_runs(path: Path, tmp_path: Path) -> None:
    """The Python of a page, block after block, in an empty folder that holds what the project's own has."""
    text = path.read_text(encoding="utf-8")
    code = [block for language, block, before in blocks(text) if language == "python" and not FILE.search(before)]
    if not code:
        return
    for name in ("conf", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    said = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said.returncode == 0, f"{path.relative_to(ROOT)}: the Python of this page ends with\n{said.stderr}"


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_commands_compose(path: Path) -> None:
    wrong = []
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        for line in commands(path.read_text(encoding="utf-8")):
            trouble = made(line) if line.startswith("make ") else composed(line)
            if trouble:
                wrong.append(f"{line}\n    {trouble}")
    assert not wrong, f"{path.relative_to(ROOT)}:\n" + "\n".join(wrong)


@cache
def made(line: str) -> str:
    """What is wrong with a line of make; "" if nothing."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # Without a folder of wheels the Makefile asks pip where it has one, which takes longer than all the rest.
    settings = {**os.environ, "PIP_FIND_LINKS": "."}
    words = [word for word in shlex.split(line)[1:] if word not in ANYTHING]
    known = set(re.findall(r"^(\w+) +\?=", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for word in words:
        if "=" in word and word.partition("=")[0] not in known:
            return f"the Makefile knows no variable {word.partition('=')[0]}"
    said = subprocess.run(
        ["make", "--dry-run", "--silent", *words], cwd=ROOT, env=settings, capture_output=True, text=True, check=False
    )
    return said.stderr.strip() if said.returncode else _inner(said.stdout)


def _inner(script: str) -> str:
    """What is wrong with the overrides that a target itself hands on."""
    lines = [
        line[line.index("python -m adasid_exp") :] for line in script.splitlines() if "python -m adasid_exp " in line
    ]
    return "\n".join(filter(None, map(composed, lines)))


def composed(line: str) -> str:
    """What is wrong with the overrides of a command; "" if nothing."""
    words = shlex.split(re.sub(r"(\|\||&&|[<>;|]).*", "", line))
    at = next(place for place, word in enumerate(words) if word in ("adasid", "adasid_exp"))
    rest = [_opened(word) for word in words[at + 1 :] if _opened(word) not in ANYTHING]
    if words[at] == "adasid" and rest and "=" not in rest[0] and not rest[0].startswith("-"):
        try:
            rest = meant(rest[0], rest[1:])
        except UserError as error:
            return str(error)
    overrides = [word for word in rest if "=" in word and not word.startswith("-") and not _stands_for_any(word)]
    if trouble := _said_by_hydra(tuple(word for word in overrides if _installed(word) and not FREE.match(word))):
        return trouble
    grid = next((word.partition("=")[2] for word in overrides if word.startswith("stage.grid=")), None)
    return _known_grid(grid.strip("'")) if grid else ""


def meant(word: str, rest: list[str]) -> list[str]:
    """The overrides that ``adasid WORD ...`` stands for, as the command itself says it.

    Raises:
        UserError: no such command, or it does not take that.
    """
    if word not in COMMANDS and word != "help":
        raise UserError(f"adasid has no command {word}")
    if "--help" in rest or word in ("help", "doctor", "completion") or rest[:1] == ["validate"]:
        return []
    if word == "run":
        return rest
    if word == "table":  # any folder: the command looks at what is in it
        at = rest.index("--data") + 1 if "--data" in rest else 0
        return table.overrides_of([*rest[:at], "toy", *rest[at + 1 :]] if at else rest) or []
    if word == "data":
        return data.overrides_of([part for part in rest if part.islower() or "=" in part or part.isdigit()])
    return {"report": forward.report, "inspect": forward.inspect, "export": forward.export}[word](rest)


@cache
def _said_by_hydra(overrides: tuple[str, ...]) -> str:
    try:
        compose("config", overrides=[_first(word) for word in overrides])
    except Exception as error:  # noqa: BLE001 - whatever Hydra says of it is what the reader would see
        return " ".join(str(error).split())
    return ""


def _opened(word: str) -> str:
    """A word without the brackets that say it may be left out."""
    return word.strip("[]") if "=" not in word or word.startswith("[") else word


def _stands_for_any(word: str) -> bool:
    key, _, value = word.partition("=")
    return word in PLACEHOLDERS or value in ("...", "…", "CHOICE") or not key or value in WRITTEN


def _installed(word: str) -> bool:
    """Whether Hydra's plugin is there that an override names; its own keys come with it."""
    plugin = {"submitit": "hydra_plugins.hydra_submitit_launcher", "optuna": "hydra_plugins.hydra_optuna_sweeper"}
    wanted = (
        "submitit"
        if "submitit" in word or word.startswith("hydra.launcher.")
        else "optuna"
        if "sweeper" in word
        else ""
    )
    return not wanted or _has(plugin[wanted])


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _first(word: str) -> str:
    """An override as it is, or of a sweep its first value."""
    (override,) = OverridesParser.create().parse_overrides([word])
    if not override.is_sweep_override():
        return word
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


def _known_grid(name: str) -> str:
    if name in ("NAME", "GRID", "rotation") or name.startswith("-"):  # add-a-method.md has its reader write `rotation`
        return ""
    try:
        load_grid(name)
    except UserError as error:
        return str(error)
    return ""
