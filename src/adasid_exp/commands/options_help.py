"""`adasid run --help`: the flags, every group with its options, the keys, a line each."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adasid_exp.commands.options import Conf
from adasid_exp.stages.hints import nearest
from adasid_exp.stages.locations import CONF

USAGE = """adasid run [FLAG ...] [GROUP=OPTION ...] [KEY=VALUE ...]      the same: python -m adasid_exp ...

  adasid run stage=retrieve tokenizer=ada_sid tokenizer.align.alpha=20 seed=3
  adasid run -m stage=retrieve tokenizer.align.alpha=10,20      every combination of what stands between commas
  adasid run stage=tokenize tokenizer=letter --cfg job          shows the configuration, runs nothing
"""
FLAGS = (
    ("-m", "run every combination (a sweep); with search=... Optuna chooses"),
    ("--cfg job", "show the composed configuration (--package KEY: a part; --resolve: with its references)"),
    ("--info defaults-tree", "show which file brought what (also: config, searchpath, plugins)"),
    ("--hydra-help", "Hydra's own flags"),
    ("--help [GROUP]", "this page, or one group of it"),
)


def show_run_help(wanted: Sequence[str]) -> int:
    """Writes the page, or the groups named; the exit code."""
    conf = Conf(CONF)
    unknown = [name for name in wanted if "=" not in name and name not in conf.groups]
    if unknown:
        hint = nearest(unknown[0], conf.groups) or f"there are: {', '.join(conf.groups)}"
        sys.stderr.write(f"error: --help {unknown[0]}: no such group; {hint}\n")
        return 2
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=140)
    groups = [name for name in wanted if name in conf.groups]
    if groups:
        console.print(group_table(conf, groups))
        return 0
    console.print(Text(USAGE))
    console.print(titled("Flags", FLAGS))
    console.print()
    console.print(titled("Keys", [(f"{key.name}={key.default}", key.line) for key in conf.keys]))
    console.print(Text("\nGroups and their options (* is the default)", style="bold"))
    console.print(group_table(conf, list(conf.groups)))
    return 0


def titled(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    """Two columns under a title."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2))
    table.add_column(style="cyan", max_width=32, overflow="fold")
    table.add_column()
    for name, line in rows:
        table.add_row(Text(name), Text(line))
    return table


def group_table(conf: Conf, groups: Sequence[str]) -> Table:
    """Each group in a line with what to write, its options below."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for group in groups:
        places = conf.places[group]
        table.add_row(Text(group, style="bold"), Text(" or ".join(f"{place}=" for place in places), style="dim"))
        chosen = conf.chosen.get(group, "").replace("${data}", conf.chosen.get("data", ""))
        for option in conf.groups[group]:
            mark = "*" if option.name == chosen else " "
            table.add_row(Text(f"{mark} {option.name}", style="cyan"), Text(option.line))
    return table
