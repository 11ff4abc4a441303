"""What is wrong with an override: one line with what, where, the nearest name, the way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, QuotedString
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adasid_exp.commands.options import Conf
from adasid_exp.stages.hints import nearest
from adasid_exp.stages.locations import CONF
from adasid_exp.types import UserError

MISTAKES = (HydraException, OmegaConfBaseException, ValueError)
"""What Hydra raises where a command line does not compose."""

EXTRAS = {
    "hydra/sweeper/optuna": "sweep",
    "hydra/launcher/joblib": "sweep",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/submitit_local": "slurm",
}
"""The optional packages that bring plugins of Hydra."""

WANTED_WHERE_NULL: dict[str, type] = {
    "stage.methods": list,
    "stage.parts": list,
    "stage.seeds": list,
    "stage.jobs": int,
}
"""Types of keys whose default, null, does not tell."""

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list [a,b]"}


def one_line(error: object) -> str:
    """Whatever it says, in one line of bearable length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:297]}..."


def explain(overrides: Sequence[str], error: Exception) -> str:
    """The one line for a command line that Hydra refused with ``error``."""
    singles = []
    for text in overrides:
        try:
            singles += variants(text)
        except HydraException as reason:
            return unreadable(text, reason)
    for text in overrides:
        if str(error).startswith("Ambiguous value") and f"'{text}'" in str(error):
            return several_values(text)
    bad = dict(culprits(singles))
    for text, why in bad.items():
        return wrong(text, composed([other for other in singles if other not in bad]), why)
    return one_line(error)


def several_values(text: str) -> str:
    """The line for a sweep without its flag."""
    key, _, value = text.partition("=")
    quoted = f"{key}='{value}'"
    return f'{text}: several values; -m runs each of them, {key}=[{value}] is a list, "{quoted}" one text'


def parse(text: str) -> Override:
    """One override as Hydra reads it."""
    return OverridesParser.create().parse_override(text)


def variants(text: str) -> list[str]:
    """An override, or each of those that a sweep (``a=1,2``) makes of it."""
    override = parse(text)
    if not override.is_sweep_override() or not override.is_discrete_sweep():
        return [text] if not override.is_sweep_override() else []
    key = text.partition("=")[0]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def unreadable(text: str, reason: Exception) -> str:
    """The line for what is no override at all."""
    if "=" not in text:
        if options_of(text):
            return f"{text}: no value; {text}=OPTION, with one of {', '.join(options_of(text))}"
        homes = [group for group, options in Conf(CONF).groups.items() if text in {option.name for option in options}]
        places = [place for group in homes for place in Conf(CONF).places[group]]
        hint = f"did you mean {places[0]}={text}?" if places else nearest(text, top_names())
        return f"{text}: no value; an override is KEY=VALUE; {hint or '`adasid run --help` lists the keys'}"
    key, _, value = text.partition("=")
    if not value.strip() and key.strip():
        return f"{text}: no value behind =; write {key}=VALUE, or {key}=null for none"
    first = one_line(str(reason).splitlines()[0])
    quoted = value.replace("'", "\\'")
    return f"{text}: cannot be read ({first}); quote a text that holds , : = or brackets: {key}=\"'{quoted}'\""


def top_names() -> list[str]:
    """Groups and keys that stand at the top of the configuration."""
    conf = Conf(CONF)
    return [*conf.chosen, *(key.name for key in conf.keys)]


def culprits(overrides: Sequence[str]) -> Iterator[tuple[str, Exception]]:
    """Overrides that cannot be composed with those that can, choices of groups first, as Hydra applies them."""
    good: list[str] = []
    groups = set(Conf(CONF).groups)
    for text in sorted(overrides, key=lambda text: (parse(text).key_or_group or "").split("@")[0] not in groups):
        try:
            composed([*good, text])
            good.append(text)
        except MISTAKES as reason:
            yield text, reason


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration, Hydra's own part included."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def wrong(text: str, cfg: DictConfig, reason: Exception) -> str:
    """The line for an override that cannot be composed with the others, ``cfg``, for a reason that Hydra gave."""
    override = parse(text)
    key = override.key_or_group
    choices = {str(name): str(option) for name, option in cfg.hydra.runtime.choices.items()}
    group = key.split("@")[0]
    full = key if override.package is None else f"{key}@{override.package}"
    options = options_of(group)
    if isinstance(reason, MissingConfigException) and reason.options:
        return wrong_option(full, group, str(override.value()), reason.options)
    if options and full in choices:
        return f"{text} does not go with the other choices: {one_line(reason)} (conf/{group}/{override.value()}.yaml)"
    if override.package is not None or options:
        return wrong_place(text, full, group, choices)
    if override.type == OverrideType.ADD and OmegaConf.select(cfg, key) is not None:
        return f"{text}: {key} is there already; without + it is set: {text.lstrip('+')}"
    return wrong_key(text, key, cfg, choices)


def options_of(group: str) -> list[str]:
    """The options of a group of ours; none if it is not one."""
    return [option.name for option in Conf(CONF).groups.get(group, [])]


def wrong_option(full: str, group: str, value: str, options: Sequence[str]) -> str:
    """The line for a choice that its group does not have."""
    if f"{group}/{value}" in EXTRAS:
        return f'{full}={value} needs an optional package: pip install "adasid-exp[{EXTRAS[f"{group}/{value}"]}]"'
    hint = nearest(value, options)
    return f"{full}={value}: no such option of {group}; {hint + ' ' if hint else ''}({', '.join(options)})"


def wrong_place(text: str, full: str, group: str, choices: dict[str, str]) -> str:
    """The line for a choice where the configuration chooses nothing."""
    value = text.partition("=")[2]
    here = [name for name in choices if name.split("@")[0] == group]
    if here:
        return f"{text}: {group} is chosen at another place; did you mean {here[0]}={value}?"
    places = Conf(CONF).places.get(group, [])
    if places:
        return (
            f"{text}: nothing of this configuration chooses {group} ({' or '.join(places)}, with other choices above)"
        )
    return f"{text}: no group {group}; {nearest(full, choices) or '`adasid run --help` lists the groups'}"


def wrong_key(text: str, key: str, cfg: DictConfig, choices: dict[str, str]) -> str:
    """The line for a key that is not there."""
    value = text.partition("=")[2]
    node, found = descend(cfg, key)
    missing = key[len(found) + 1 :].split(".")[0] if found else key.split(".")[0]
    at = [name for name in choices if name.partition("@")[2] == key]
    if at:
        return f"{text}: {key} is a group of keys; to choose: {at[0]}={value}"
    names = [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []
    if not found:
        names += [name for name in choices if not name.startswith("hydra")]
    elsewhere = [path for path in leaves(cfg, "") if path.endswith(f".{key}")]
    hint = f"did you mean {elsewhere[0]}?" if elsewhere else nearest(missing, names)
    if hint and found and not elsewhere:
        hint = hint.replace("did you mean ", f"did you mean {found}.")
    where = found or "the configuration"
    if not isinstance(node, DictConfig):
        return f"{text}: {found} is a value, it has no key {missing} below it; {found}=VALUE sets it"
    known = f"it has: {', '.join(names[:15])}" if found else "`adasid run --help` lists groups and keys"
    return f"{text}: {where} has no key {missing}; {hint or known}"


def descend(cfg: Any, key: str) -> tuple[Any, str]:
    """As far as a dotted key leads: the node there and the part of the key that is known."""
    node, found = cfg, []
    for name in key.split("."):
        if not isinstance(node, DictConfig) or name not in node:
            break
        node = node._get_node(name) if OmegaConf.is_interpolation(node, name) else node[name]
        found.append(name)
    return node, ".".join(found)


def leaves(cfg: Any, prefix: str) -> Iterator[str]:
    """Every dotted key of a configuration but Hydra's own."""
    for name in cfg:
        path = f"{prefix}{name}"
        if path == "hydra":
            continue
        yield path
        child = None if OmegaConf.is_interpolation(cfg, name) or OmegaConf.is_missing(cfg, name) else cfg[name]
        if isinstance(child, DictConfig):
            yield from leaves(child, f"{path}.")


def wrong_types(overrides: Sequence[str]) -> None:
    """Holds the values that a command line sets against the defaults in their place.

    Raises:
        UserError: one is of another type.
    """
    parsed = [parse(text) for text in overrides]
    values = [each for each in parsed if sets_value(each)]
    if not values:
        return
    rest = [str(each.input_line) for each in parsed if each not in values]
    cfg = compose("config", overrides=rest) if GlobalHydra.instance().is_initialized() else composed(rest)
    for each in values:
        check_type(each, cfg)


def sets_value(override: Override) -> bool:
    """Whether an override sets a key that is there, and is no choice of a group."""
    key = override.key_or_group
    plain = override.type == OverrideType.CHANGE and override.package is None and not key.startswith("hydra")
    return plain and not options_of(key) and not override.is_sweep_override()


def check_type(override: Override, cfg: DictConfig) -> None:
    """See `wrong_types`; what is null before or after says nothing."""
    key, value = override.key_or_group, override.value()
    try:
        default = OmegaConf.select(cfg, key)
    except OmegaConfBaseException:  # an interpolation that only holds inside the run
        return
    wanted = WANTED_WHERE_NULL.get(key) if default is None else kind_of(default)
    given = kind_of(value)
    if value is None or wanted is None or given is wanted or (wanted is float and given is int):
        return
    if wanted is str and given in (int, float, bool):
        return
    shown = str(override.input_line).partition("=")[2] or "nothing"
    if wanted is dict:
        places = [place for each in Conf(CONF).places.values() for place in each if place.endswith(f"@{key}")]
        raise UserError(f"{key} has keys below it; to choose its option: {(places or [key])[0]}={shown}")
    hint = f"; did you mean {key}=[{shown}]?" if wanted is list and given is not dict else ""
    now = "" if default is None else f" (the default is {default})"
    raise UserError(f"{key}: {shown} is no value for it, {KINDS[wanted]} is wanted{now}{hint}")


def kind_of(value: Any) -> type:
    """The type of a value, those of OmegaConf and of Hydra's grammar as Python's own."""
    if isinstance(value, QuotedString):
        return str
    if isinstance(value, DictConfig):
        return dict
    return list if isinstance(value, ListConfig) else type(value)
