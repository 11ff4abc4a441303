"""What could not be made, and why: one small file each in the store, gone once the artifact is there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from adasid_exp.types import UserError

FAILURES = "failures"
"""Folder within the store."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An artifact that a grid could not make.

    Attributes:
        signature, title: of the artifact.
        reason: in one line.
        overrides: compose the cell it was made for.
        when: UTC, ISO 8601.
    """

    signature: str
    title: str
    reason: str
    overrides: tuple[str, ...]
    when: str


def record_failure(root: Path, *, signature: str, title: str, reason: str, overrides: Sequence[str]) -> None:
    """Notes a failure in the store ``root``, in place of an earlier one of the same artifact."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    failure = Failure(signature=signature, title=title, reason=reason, overrides=tuple(overrides), when=now)
    path = _path(root, signature)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(failure), indent=1, ensure_ascii=False))
    os.replace(draft, path)


def forget_failure(root: Path, signature: str) -> None:
    """The artifact is there: it failed no longer."""
    _path(root, signature).unlink(missing_ok=True)


def failures(root: Path) -> dict[str, Failure]:
    """Every failure on record, by signature.

    Raises:
        UserError: a record is unreadable.
    """
    found = {}
    for path in sorted((root / FAILURES).glob("*.json")):
        try:
            tree = json.loads(path.read_text())
            found[tree["signature"]] = Failure(**{**tree, "overrides": tuple(tree["overrides"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is no readable record of a failure ({error}); delete the file") from error
    return found


def _path(root: Path, signature: str) -> Path:
    return root / FAILURES / f"{signature}.json"
