"""The console script ``adasid``: a word for each thing that people do, in front of the one configuration in conf/."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

HEADER = """adasid COMMAND ...      semantic IDs: learn, measure, look into, ship
"""
FOOTER = """
`adasid COMMAND --help` says more. `adasid KEY=VALUE ...` is `adasid run KEY=VALUE ...`.
To begin with: adasid table table2 --data toy --seeds 0      Tab completion: adasid completion --help
"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A word behind ``adasid``.

    Attributes:
        module: of this package; its function ``run`` takes the word and what follows it, and returns the exit code.
        line: what it does.
    """

    module: str
    line: str


COMMANDS = {
    "run": Command(module="run", line="any stage, any override, any sweep: GROUP=OPTION KEY=VALUE ..."),
    "table": Command(module="table", line="run what a table or figure still lacks, then write it: table GRID"),
    "report": Command(module="forward", line="one self-contained HTML page from the finished runs"),
    "inspect": Command(module="forward", line="the quality of any SID table: inspect [FILE|FOLDER]"),
    "export": Command(module="forward", line="for production: export sids | export model"),
    "data": Command(module="data", line="data validate FOLDER: what is wrong, row by row; data prepare; data simulate"),
    "doctor": Command(module="doctor", line="what this machine has, what is missing and how to get it"),
    "completion": Command(module="completion", line="tab completion: completion bash | zsh | fish"),
}
"""Every command, in the order of the help."""


def main() -> None:
    """The console script."""
    sys.exit(dispatch(sys.argv[1:]))


def dispatch(arguments: Sequence[str]) -> int:
    """Runs a command line; the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    word, rest = arguments[0], list(arguments[1:])
    if "=" in word or word.startswith(("-", "+", "~")):
        word, rest = "run", list(arguments)
    if word in COMMANDS:
        try:
            code: int = import_module(f"adasid_exp.commands.{COMMANDS[word].module}").run(word, rest)
        except ModuleNotFoundError as error:  # even `doctor` needs some of them
            if error.name is None or error.name.startswith("adasid_exp"):
                raise
            sys.stderr.write(f"error: {error.name} is not installed: pip install -U adasid-exp (`adasid doctor`)\n")
            return 2
        return code
    near = get_close_matches(word, COMMANDS, n=1)
    hint = f"did you mean `adasid {near[0]}`?" if near else f"there are: {', '.join(COMMANDS)}"
    sys.stderr.write(f"error: no command {word!r}; {hint} (`adasid --help`)\n")
    return 2


def overview() -> str:
    """The commands with a line each."""
    lines = [f"  {name:<12}{command.line}" for name, command in COMMANDS.items()]
    return "\n".join([HEADER, *lines, FOOTER])
