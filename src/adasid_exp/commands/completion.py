"""`adasid completion SHELL`: what a shell asks on Tab; Hydra's own completion answers for groups, options and keys."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.utils import create_config_search_path

from adasid_exp.commands.adasid import COMMANDS
from adasid_exp.commands.arguments import Arguments, complain
from adasid_exp.commands.options import Conf
from adasid_exp.stages.locations import CONF, EXPERIMENTS
from adasid_exp.types import UserError

BASH = """_adasid() {
    local IFS=$'\\n' line="${COMP_LINE:0:$COMP_POINT}" word
    word="${line##* }"
    COMPREPLY=($(compgen -W "$(adasid completion answer -- "$line" 2>/dev/null)" -- "$word"))
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" != *[=./] ]] && compopt +o nospace
    # readline breaks words at these; what stands before the last of them is on the line already
    local cut="${word%"${word##*[=:@]}"}"
    COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -o nospace -o default -F _adasid adasid
"""
ZSH = """autoload -Uz compinit && compinit -C
_adasid() {
    local -a found
    found=("${(@f)$(adasid completion answer -- "${LBUFFER}" 2>/dev/null)}")
    compadd -Q -S '' -- $found
}
compdef _adasid adasid
"""
FISH = """complete -c adasid -e
complete -c adasid -a '(adasid completion answer -- (commandline -cp) 2>/dev/null)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
HOW = """To have it now and in every new shell:

  bash:  echo 'eval "$(adasid completion bash)"' >> ~/.bashrc && exec bash
  zsh:   echo 'eval "$(adasid completion zsh)"' >> ~/.zshrc && exec zsh
  fish:  adasid completion fish > ~/.config/fish/completions/adasid.fish
"""
WORDS = {
    "export": ["sids", "model"],
    "data": ["validate", "prepare", "simulate"],
    "completion": list(SCRIPTS),
}
"""What may follow a command first."""
FLAGS = {
    "table": ["--data", "--methods", "--parts", "--seeds", "--jobs", "--results"],
    "doctor": ["--json", "--data"],
    "data": ["--json", "--rows", "--kind"],
}
STAGES = {"table": "stage=reproduce", "inspect": "stage=inspect", "report": "stage=report"}
"""What a command chooses before its overrides."""


def run(word: str, arguments: Sequence[str]) -> int:
    """Writes a shell's script, or, asked by one, the answers; the exit code."""
    if arguments and arguments[0] == "answer":
        sys.stdout.write("".join(f"{each}\n" for each in answers(arguments[-1])))
        return 0
    parser = Arguments(command="adasid completion", line="Tab completion of commands, groups, options, keys.", more=HOW)
    parser.add_argument("shell", choices=sorted(SCRIPTS), help="writes the script of this shell")
    try:
        sys.stdout.write(SCRIPTS[parser.parse_args(list(arguments)).shell])
    except UserError as error:
        return complain(str(error))
    return 0


def answers(line: str) -> list[str]:
    """How the last word of ``adasid ...`` may end.

    Args:
        line: up to the cursor.
    """
    words = line.split()[1:]
    word = "" if line.endswith(" ") or not words else words.pop()
    if not words:
        found = [*COMMANDS, *(overrides("", word) if "=" in word else [])]
    elif word.startswith("-"):
        found = [*FLAGS.get(words[0], []), "--help"]
    else:
        first = first_words(words, word)
        later = overrides(" ".join(chosen(words)), word) if first is None and takes_overrides(words[0]) else []
        found = later if first is None else first
    return sorted({each for each in found if each.startswith(word)})


def takes_overrides(command: str) -> bool:
    """Whether what follows a command may be overrides."""
    return command in ("run", "export", *STAGES) or "=" in command


def first_words(words: Sequence[str], word: str) -> list[str] | None:
    """What stands in places where no override may; None elsewhere."""
    if words[-1] == "--data":
        return [option.name for option in Conf(CONF).groups["data"]] + paths(word)
    if words[0] == "data":
        return WORDS["data"] if len(words) == 1 else paths(word)
    if len(words) > 1 or words[0] not in (*WORDS, "table", "inspect"):
        return None
    if words[0] == "inspect":
        return paths(word) if "=" not in word and word else None
    return sorted(path.stem for path in EXPERIMENTS.glob("*.yaml")) if words[0] == "table" else WORDS[words[0]]


def paths(word: str) -> list[str]:
    """Files and folders that begin so."""
    folder = Path(word if word.endswith("/") or not word else Path(word).parent)
    head = "" if str(folder) == "." and not word.startswith("./") else f"{str(folder).rstrip('/')}/"
    if not folder.is_dir():
        return []
    shown = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [f"{head}{path.name}{'/' if path.is_dir() else ''}" for path in shown]


def chosen(words: Sequence[str]) -> list[str]:
    """The overrides among the words, with the one that the command stands for."""
    own = [STAGES[words[0]]] if words[0] in STAGES else []
    return [*own, *(each for each in words if "=" in each and not each.startswith("-"))]


def overrides(before: str, word: str) -> list[str]:
    """Groups, options and keys after some overrides; ``group@package`` is completed from the files."""
    loader = ConfigLoaderImpl(config_search_path=create_config_search_path(str(CONF)))
    conf = Conf(CONF)
    placed = [place for places in conf.places.values() for place in places if "@" in place]
    key, equals, _ = word.partition("=")
    if "@" in key and equals:
        group = key.split("@")[0]
        return [f"{key}={option.name}" for option in conf.groups.get(group, [])]
    found = BashCompletion(loader)._query(config_name="config", line=f"{before} {word}".lstrip())
    only_placed = set(conf.groups) - set(conf.chosen)
    at_top = [each for each in found if each.rstrip("=/") not in only_placed and not each.startswith("hydra")]
    return [*at_top, *(f"{place}=" for place in placed)]
