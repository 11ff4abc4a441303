"""`adasid run` and ``python -m adasid_exp``: the help from files alone, all else to Hydra."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run(word: str, arguments: Sequence[str]) -> int:
    """`adasid run`; the exit code."""
    if "-h" in arguments or "--help" in arguments:
        help_page = import_module("adasid_exp.commands.options_help")
        code: int = help_page.show_run_help([each for each in arguments if not each.startswith("-")])
        return code
    return run_hydra(arguments)


def run_hydra(arguments: Sequence[str]) -> int:
    """Composes and runs; imported only now, since Hydra takes half a second and torch several."""
    # Read when torch is imported, here or in the jobs of a batch system, which inherit it: torch's C++ side advises on
    # options that were chosen on purpose.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        code: int = import_module("adasid_exp.commands.hydra_line").run_hydra(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("stopped before anything was begun\n")
        return STOPPED
    return code


def main() -> None:
    """``python -m adasid_exp``."""
    sys.exit(run("run", sys.argv[1:]))
