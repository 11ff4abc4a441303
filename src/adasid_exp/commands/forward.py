"""`adasid report`, `inspect` and `export`: short names of stages; overrides pass on to Hydra."""

from __future__ import annotations

from collections.abc import Sequence

from adasid_exp.commands.arguments import Arguments, complain, quoted
from adasid_exp.commands.run import run_hydra
from adasid_exp.types import UserError

OVERRIDES = "Everything else is an override as in `adasid run`: data=beauty tokenizer=rq_vae seed=1 ..."


def run(word: str, arguments: Sequence[str]) -> int:
    """Runs the stage behind the word; the exit code."""
    try:
        overrides = {"report": report, "inspect": inspect, "export": export}[word](arguments)
    except UserError as error:
        return complain(str(error))
    return run_hydra(overrides)


def report(arguments: Sequence[str]) -> list[str]:
    """The overrides of `adasid report`."""
    line = "One self-contained HTML page from the finished runs (stage=report)."
    _, rest = Arguments(command="adasid report", line=line, more=OVERRIDES).split(arguments)
    return ["stage=report", *rest]


def inspect(arguments: Sequence[str]) -> list[str]:
    """The overrides of `adasid inspect [TABLE]`."""
    line = "The quality of a SID table (stage=inspect): entropy, dead codes, collisions, shared categories."
    parser = Arguments(command="adasid inspect", line=line, more=OVERRIDES)
    parser.add_argument(
        "table",
        nargs="?",
        help="a folder of SIDs, or Parquet, CSV, JSON of any origin; left out: those of tokenizer=..., made if missing",
    )
    path = [word for word in arguments[:1] if "=" not in word]
    found, rest = parser.split(arguments if path else ["", *arguments] if "-h" not in arguments else arguments)
    return ["stage=inspect", *([f"sids={quoted(found.table)}"] if found.table else []), *rest]


def export(arguments: Sequence[str]) -> list[str]:
    """The overrides of `adasid export sids|model`."""
    line = "SIDs or a tokenizer for production (stage=export_sids, stage=export_model)."
    parser = Arguments(command="adasid export", line=line, more=OVERRIDES)
    parser.add_argument(
        "what",
        choices=("sids", "model"),
        help="sids: Parquet, manifest and inverse map; model: what assigns SIDs to new items without the training code",
    )
    found, rest = parser.split(arguments)
    return [f"stage=export_{found.what}", *rest]
