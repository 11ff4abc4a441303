"""Settings as flat text, and many artifacts' settings packed so that what they share is written once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def flattened(tree: Any, prefix: str = "") -> dict[str, str]:
    """Leaves of nested settings by dotted key, as JSON text; lists of plain values are one leaf."""
    return dict(_leaves(tree, prefix))


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, Sequence) and any(isinstance(value, Mapping | list) for value in tree):
        for place, value in enumerate(tree):
            yield from _leaves(value, f"{prefix}.{place}")
    else:
        yield prefix, tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False)


@dataclass
class Interner:
    """Gives each distinct ``(key, value)`` a number.

    Attributes:
        keys, values: the distinct texts.
        pairs: place of key and of value, by number.
    """

    keys: dict[str, int] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)

    def pack(self, settings: Mapping[str, str]) -> list[int]:
        """The numbers of the pairs."""
        return [self._number(key, value) for key, value in settings.items()]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return list(self.numbers)

    def _number(self, key: str, value: str) -> int:
        pair = (self.keys.setdefault(key, len(self.keys)), self.values.setdefault(value, len(self.values)))
        return self.numbers.setdefault(pair, len(self.numbers))
