"""Hydra's command line, its complaints in one line each.

Nothing heavy is imported before the configuration is composed, so that a typing error is answered at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method
from omegaconf import DictConfig

from adasid_exp.commands.arguments import complain
from adasid_exp.commands.mistakes import MISTAKES, explain, wrong_types
from adasid_exp.stages.hints import nearest
from adasid_exp.stages.locations import CONF
from adasid_exp.types import UserError

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Set to 1, Hydra lets its exceptions pass instead of printing them."""


class JobFailed(Exception):  # noqa: N818 - it says so
    """A job of a sweep that ran elsewhere failed; the message is its one line."""


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def compose_and_start(cfg: DictConfig) -> float | None:
    """The composed configuration, values checked for their types, goes to the pipeline."""
    try:
        wrong_types(list(HydraConfig.get().overrides.task))
    except UserError as error:  # here, since Hydra adds a line of its own to what leaves a run
        sys.exit(complain(str(error)))
    objective: float | None = get_method("adasid_exp.commands.pipeline.start")(cfg)
    return objective


def run_hydra(arguments: Sequence[str]) -> int:
    """Runs Hydra's command line on ``arguments``; the exit code."""
    try:
        overrides = overrides_of(arguments)
    except UserError as error:
        return complain(str(error))
    try:
        with errors_pass():
            sys.argv = [sys.argv[0], *arguments]
            compose_and_start()
    except JobFailed as error:
        return complain(str(error))
    except MISTAKES as error:
        if os.environ.get(FULL_ERROR) == "1" or started(error):
            raise
        return complain(explain(overrides, error))
    return 0


@contextlib.contextmanager
def errors_pass() -> Iterator[None]:
    """Hydra's exceptions reach the caller."""
    former = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        del os.environ[FULL_ERROR]
        if former is not None:
            os.environ[FULL_ERROR] = former


def started(error: Exception) -> bool:
    """Whether the error comes from the run itself, not from composing it."""
    names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    return "compose_and_start" in names


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """What is left of the arguments without Hydra's own flags.

    Raises:
        UserError: a flag that Hydra does not know, or one without its value.
    """
    parser = get_args_parser()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found, unknown = parser.parse_known_args(list(arguments))
    except SystemExit as stop:
        last = said.getvalue().strip().splitlines()[-1].split("error: ")[-1]
        raise UserError(f"{last}; `adasid run --help` lists flags, groups and keys") from stop
    flags = [flag for action in parser._actions for flag in action.option_strings]
    for word in unknown:
        hint = nearest(word, flags)
        raise UserError(f"{word}: no such flag; {hint or 'an override is KEY=VALUE'} (`adasid run --help`)")
    return list(found.overrides)
