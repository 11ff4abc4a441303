"""Where the configuration lies: beside the package in a wheel, above `src/` in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def _beside(name: str) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parents[1] / name


CONF = _beside("conf")
EXPERIMENTS = _beside("experiments")
