"""Command lines of the shorter commands: argparse, with a mistake in one line, and overrides passed on to Hydra."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

from adasid_exp.stages.hints import nearest
from adasid_exp.types import UserError

INVALID, CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)"), re.compile(r"[\w-]+")
"""What argparse says of a word that is none of the choices."""

BEFORE_QUOTE = re.compile(r"(\\*)('|$)")
"""Where a backslash of Hydra's quoted texts means anything."""


class Arguments(argparse.ArgumentParser):
    """A parser that raises instead of printing its usage.

    Args:
        command: as typed, ``adasid table``.
        line: what it does.
        more: text below the options.
    """

    def __init__(self, *, command: str, line: str, more: str) -> None:
        super().__init__(
            prog=command,
            description=line,
            epilog=more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """One line.

        Raises:
            UserError: always.
        """
        choice = INVALID.search(message)
        near = get_close_matches(choice[1], CHOICE.findall(choice[2]), n=1) if choice else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{self.prog}: {message}{hint} (`{self.prog} --help`)")

    def split(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """The options that the parser knows, and overrides for Hydra.

        Raises:
            UserError: something is neither.
        """
        found, rest = self.parse_known_args(list(arguments))
        flags = [flag for action in self._actions for flag in action.option_strings]
        for word in rest:
            if word.startswith("~"):  # ~KEY takes a key out
                continue
            if word.startswith("--") or (word.startswith("-") and word != "-m") or "=" not in word.lstrip("-m"):
                hint = nearest(word, flags) or "an override is KEY=VALUE"
                raise UserError(f"{word}: no option of `{self.prog}`; {hint} (`{self.prog} --help`)")
        return found, rest


def quoted(text: str) -> str:
    """A text as one value of Hydra's grammar, whatever is in it."""
    plain = text and all(letter.isalnum() or letter in "_-./:" for letter in text)
    escaped = BEFORE_QUOTE.sub(lambda found: found[1] * 2 + (found[2] and "\\'"), text)
    return text if plain else f"'{escaped}'"


def complain(text: str) -> int:
    """Says what is wrong, once where several ranks read the same command line; exit code 2."""
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"error: {text}\n")
    return 2
