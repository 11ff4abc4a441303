"""`adasid table GRID`: runs what a grid of experiments/ still lacks and writes its table."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from adasid_exp.commands.arguments import Arguments, complain, quoted
from adasid_exp.commands.folders import kind_of_folder
from adasid_exp.commands.forward import OVERRIDES
from adasid_exp.commands.options import Conf
from adasid_exp.commands.run import run_hydra
from adasid_exp.stages.locations import CONF, EXPERIMENTS
from adasid_exp.types import UserError

TITLE = re.compile(r"^title:\s*['\"]?(.*?)['\"]?\s*$", re.MULTILINE)


def run(word: str, arguments: Sequence[str]) -> int:
    """Runs the grid; the exit code."""
    try:
        overrides = overrides_of(arguments)
    except UserError as error:
        return complain(str(error))
    if overrides is None:
        sys.stdout.write(listed())
        return 0
    return run_hydra(overrides)


def overrides_of(arguments: Sequence[str]) -> list[str] | None:
    """What `adasid table` stands for; None where no grid is named.

    Raises:
        UserError: an option that does not exist, or data that are not there.
    """
    parser = Arguments(
        command="adasid table",
        line="Runs what a table or figure still lacks, then writes it to results/ (stage=reproduce).",
        more=f"Grids:\n{listed()}\n{OVERRIDES}",
    )
    parser.add_argument("grid", nargs="?", help="a file of experiments/, see below")
    parser.add_argument("--data", metavar="DATA", help="toy, beauty, a FOLDER, or KIND:FOLDER (beauty, tables, logs)")
    parser.add_argument("--methods", metavar="A,B", help="rows of the grid; left out: all")
    parser.add_argument("--parts", metavar="A,B", help="its blocks, as retrieval; left out: all")
    parser.add_argument("--seeds", metavar="0,1", help="left out: the grid's own")
    parser.add_argument("--jobs", metavar="N", help="processes; left out: one a core")
    parser.add_argument("--results", metavar="FOLDER", help="where tables and figures go; left out: results")
    found, rest = parser.split(arguments)
    if found.grid is None:
        return None
    if "=" in found.grid:
        raise UserError(f"adasid table: name a grid in front of {found.grid} (`adasid table` lists them)")
    lists = [f"stage.{name}=[{value}]" for name in ("methods", "parts", "seeds") if (value := getattr(found, name))]
    jobs = [f"stage.jobs={found.jobs}"] if found.jobs else []
    results = [f"stage.results={quoted(found.results)}"] if found.results else []
    data = data_overrides(found.data) if found.data else []
    return ["stage=reproduce", f"stage.grid={quoted(found.grid)}", *data, *lists, *jobs, *results, *rest]


def data_overrides(text: str) -> list[str]:
    """The overrides for ``toy``, a folder, or ``kind:folder``.

    Raises:
        UserError: the folder is not there, or nothing in it is known.
    """
    kinds = [option.name for option in Conf(CONF).groups["data"]]
    if text in kinds:
        return [f"data={text}"]
    kind, colon, folder = text.partition(":")
    if colon and kind in kinds:
        return [f"data={kind}", f"data.root={quoted(folder)}"]
    return [f"data={kind_of_folder(Path(text)).data}", f"data.root={quoted(text)}"]


def listed() -> str:
    """Every grid with its title."""
    grids = sorted(EXPERIMENTS.glob("*.yaml"))
    return "".join(f"  {path.stem:<12}{title_of(path)}\n" for path in grids)


def title_of(path: Path) -> str:
    """The title in a grid file."""
    found = TITLE.search(path.read_text(encoding="utf-8"))
    return found[1] if found else ""
