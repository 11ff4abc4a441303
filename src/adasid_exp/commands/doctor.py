"""`adasid doctor`: what this machine has, what is missing and how to get it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adasid_exp.commands.arguments import Arguments, complain
from adasid_exp.commands.doctor_checks import LACKS, NOTE, OK, Check, all_checks, interpreter
from adasid_exp.types import UserError

STYLES = {OK: "green", NOTE: "yellow", LACKS: "bold red"}
LEGEND = """ok: there; note: optional, or worth knowing; LACKS: nothing runs without it
exit code 0 where the pipeline can run, 1 where something required is lacking"""


def run(word: str, arguments: Sequence[str]) -> int:
    """Looks at everything; 1 where something required is lacking."""
    parser = Arguments(
        command="adasid doctor", line="What this machine has, what is missing, how to get it.", more=LEGEND
    )
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("ADASID_RUNS", "runs")), metavar="FOLDER")
    home = Path(os.environ.get("ADASID_BEAUTY", "data/beauty"))
    parser.add_argument("--data", type=Path, default=home, metavar="FOLDER", help=f"of Beauty ({home})")
    parser.add_argument("--json", action="store_true", help="for programs")
    try:
        asked = parser.parse_args(list(arguments))
    except UserError as error:
        return complain(str(error))
    checks = all_checks(asked.runs, asked.data)
    if asked.json:
        sys.stdout.write(json.dumps([asdict(check) for check in checks], indent=1, ensure_ascii=False) + "\n")
    else:
        show(checks)
    return int(any(check.state == LACKS for check in checks))


def show(checks: Sequence[Check]) -> None:
    """A table by topic and, on the last line, the verdict."""
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=140)
    table = Table(box=None, padding=(0, 1), title=f"adasid doctor, {interpreter()}", title_justify="left")
    for name in ("", "what", "found", "how to get it"):
        table.add_column(name, overflow="fold")
    topic = ""
    for check in checks:
        if check.topic != topic:
            table.add_row(Text(""), Text(check.topic, style="bold"), "", "")
            topic = check.topic
        mark = Text(check.state, style=STYLES[check.state])
        table.add_row(mark, Text(f"  {check.name}"), Text(check.found), Text(check.remedy, style="cyan"))
    console.print(table)
    lacking = [check for check in checks if check.state == LACKS]
    for check in lacking:
        console.print(Text(f"LACKS {check.name}: {check.found}; {check.remedy}", style=STYLES[LACKS]), soft_wrap=True)
    if not lacking:
        console.print(Text("the pipeline can run: adasid table table2 --data toy --seeds 0", style=STYLES[OK]))
