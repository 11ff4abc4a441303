"""Building what a config node names, with the run-time facts it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from adasid_exp.stages.base import plain, without
from adasid_exp.types import UserError

NOT_ARGUMENTS = ("name", "inputs", "fit", "at_encoding")
"""Keys of a component's node that speak to the stage, not to the constructor."""


def build(node: DictConfig, *, always: Mapping[str, Any] | None = None, **facts: Callable[[], Any]) -> Any:
    """Instantiates ``node``, giving its constructor the facts listed under ``node.inputs``.

    Args:
        node: a component: ``_target_``, its arguments, and optionally ``name``, ``inputs``, ``fit``.
        always: facts that every component of this stage takes.
        facts: how to get each fact the stage can offer; called only if asked for.

    Raises:
        UserError: the node asks for a fact this stage does not have.
    """
    wanted = plain(node).get("inputs", [])
    missing = [name for name in wanted if name not in facts]
    if missing:
        raise UserError(f"{node.name}: inputs names {missing[0]!r}, this stage offers {', '.join(sorted(facts))}")
    given = {name: facts[name]() for name in wanted}
    return construct(without(node, *NOT_ARGUMENTS), **(always or {}), **given)


def construct(node: Mapping[str, Any], **facts: Any) -> Any:
    """Instantiates ``node`` with run-time objects beside its own arguments.

    The objects are handed over by a call, since Hydra would turn a dataclass among its own arguments into a dict.
    """
    return instantiate({**node, "_partial_": True})(**facts)


def identity(node: DictConfig) -> dict[str, Any]:
    """The part of a component's node that its result depends on: all but its name."""
    return without(node, "name")


def trained_part(node: DictConfig) -> dict[str, Any]:
    """`identity` without what only encoding reads (``node.at_encoding``: dotted paths): that needs no retraining."""
    tree = OmegaConf.create(without(node, "name", "at_encoding"))
    for path in encoding_part(node):
        branch, _, leaf = path.rpartition(".")
        del OmegaConf.select(tree, branch)[leaf]
    return plain(tree)


def encoding_part(node: DictConfig) -> dict[str, Any]:
    """What only encoding reads: value by dotted path, of those paths that the node's choices have."""
    values = {path: OmegaConf.select(node, path) for path in plain(node).get("at_encoding", [])}
    return {path: value for path, value in values.items() if value is not None}


def names_of(node: DictConfig) -> list[str]:
    """What the component asks for."""
    return list(plain(node).get("inputs", []))
