"""`adasid data validate FOLDER`: everything that is wrong, row by row; statistics where nothing is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adasid_exp.commands.arguments import Arguments
from adasid_exp.commands.findings import Finding
from adasid_exp.commands.folder_checks import Verdict, check_folder
from adasid_exp.commands.folders import KINDS, Kind, kind_of_folder

WRONG = 1
"""Exit code: the data have faults."""


def run(arguments: Sequence[str]) -> int:
    """Looks through a folder; the exit code: 0 where all is well, 1 where something is wrong.

    Raises:
        UserError: no such folder, or nothing in it is known.
    """
    parser = Arguments(
        command="adasid data validate",
        line="Everything that is wrong with a folder of data, row by row, in one go.",
        more="Kinds of folders: " + "; ".join(f"{kind.name}: {kind.title}" for kind in KINDS.values()),
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=sorted(KINDS), help="left out: told by the names in the folder")
    parser.add_argument("--rows", type=int, default=5, metavar="N", help="rows shown of each fault (5)")
    parser.add_argument("--json", action="store_true", help="for programs")
    asked, overrides = parser.split(arguments)
    started = time.perf_counter()
    told = kind_of_folder(asked.folder)
    kind = KINDS[asked.kind] if asked.kind else told
    verdict = check_folder(kind.name, asked.folder, asked.rows, overrides)
    if asked.json:
        sys.stdout.write(as_json(asked.folder, kind, verdict))
    else:
        show(asked.folder, kind, verdict, time.perf_counter() - started)
    return WRONG if verdict.findings.found else 0


def as_json(folder: Path, kind: Kind, verdict: Verdict) -> str:
    """All of it as one JSON object."""
    findings = [
        asdict(each) | {"rows": [{"row": row, "problem": problem} for row, problem in each.rows]}
        for each in verdict.findings.found
    ]
    found = {
        "folder": str(folder),
        "kind": kind.name,
        "ok": not findings,
        "findings": findings,
        "statistics": verdict.statistics,
        "notes": verdict.notes,
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def show(folder: Path, kind: Kind, verdict: Verdict, seconds: float) -> None:
    """The same for people; on the last line the verdict."""
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=140)
    console.print(Text.assemble((str(folder), "bold"), f": {kind.title}"))
    for finding in verdict.findings.found:
        console.print(*lines_of(finding, folder), sep="\n")
    if verdict.statistics:
        console.print(sizes(verdict))
    for note in verdict.notes:
        console.print(Text(f"- {note}"), soft_wrap=True)
    total = sum(finding.count for finding in verdict.findings.found)
    if total:
        kinds = len(verdict.findings.found)
        console.print(Text(f"{total:,} faults of {kinds} kinds, looked through in {seconds:.1f} s", style="bold red"))
        return
    use = f"data={kind.data} data.root={folder}" if kind.data else f"stage=append_sids stage.new_items={folder}"
    console.print(Text(f"all is well ({seconds:.1f} s): adasid run {use}", style="bold green"))


def lines_of(finding: Finding, folder: Path) -> Iterator[Text]:
    """A heading with the count and the way out, then the first rows."""
    file = Path(finding.file)
    name = str(file.relative_to(folder)) if file.is_relative_to(folder) and file != folder else str(file)
    remedy = f"  ->  {finding.remedy}" if finding.remedy else ""
    count = f"{finding.count:,} x " if finding.rows and finding.rows[0][0] is not None else ""
    yield Text.assemble("\n", (name, "bold"), ": ", (f"{count}{finding.reason}", "red"), (remedy, "green"))
    for row, problem in finding.rows:
        yield Text(f"    {'' if row is None else f'row {row}: '}{problem}")
    if finding.count > len(finding.rows) and finding.rows:
        yield Text(f"    ... and {finding.count - len(finding.rows):,} more (--rows N shows more)", style="dim")


def sizes(verdict: Verdict) -> Table:
    """What the data hold, two columns."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in verdict.statistics.items():
        if value is None:
            continue
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), Text(shown, justify="right"))
    return table
