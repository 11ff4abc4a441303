"""`adasid data validate|prepare|simulate`: what is wrong with a folder; a folder read; a folder made."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from adasid_exp.commands.arguments import Arguments, complain
from adasid_exp.commands.forward import OVERRIDES
from adasid_exp.commands.run import run_hydra
from adasid_exp.types import UserError

MORE = f"""
  adasid data validate FOLDER      everything that is wrong, row by row; statistics where nothing is
  adasid data prepare [DATA]       reads and checks a folder for the other stages (stage=prepare)
  adasid data simulate [EVENTS]    makes logs of any size (stage=simulate_logs)

{OVERRIDES}"""


def run(word: str, arguments: Sequence[str]) -> int:
    """Runs one of the three; the exit code."""
    try:
        if arguments and arguments[0] == "validate":
            code: int = import_module("adasid_exp.commands.validate").run(arguments[1:])
            return code
        return run_hydra(overrides_of(arguments))
    except UserError as error:
        return complain(str(error))


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """What the other two stand for.

    Raises:
        UserError: neither of them is asked for.
    """
    parser = Arguments(command="adasid data", line="Folders of data.", more=MORE)
    parser.add_argument("what", choices=("validate", "prepare", "simulate"))
    parser.add_argument("which", nargs="?", help="a folder, or a number of events")
    if len(arguments) > 1 and "=" in arguments[1]:
        arguments = [arguments[0], "", *arguments[1:]]
    found, rest = parser.split(arguments)
    if found.what == "prepare":
        data = import_module("adasid_exp.commands.table").data_overrides(found.which) if found.which else []
        return ["stage=prepare", *data, *rest]
    events = [f"stage.simulator.events={found.which}"] if found.which else []
    return ["stage=simulate_logs", *events, *rest]
