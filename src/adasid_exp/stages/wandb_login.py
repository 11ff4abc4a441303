"""Where wandb finds credentials; the standard library is enough to look."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterable
from pathlib import Path

VARIABLES = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
PUBLIC = "api.wandb.ai"
"""The public server, as netrc files name it."""


def variable() -> str | None:
    """The environment variable that holds credentials; None without."""
    return next((name for name in VARIABLES if os.environ.get(name)), None)


def netrc_file() -> Path:
    """Where a netrc file would be."""
    return Path(os.environ.get("NETRC") or Path.home() / ".netrc")


def in_netrc(hosts: Iterable[str]) -> str | None:
    """The first of ``hosts`` that the netrc file has a login for; None without a file or a login.

    Raises:
        OSError, netrc.NetrcParseError: the file is there and cannot be read.
    """
    try:
        known = netrc.netrc(netrc_file())
    except FileNotFoundError:
        return None
    return next((host for host in hosts if known.authenticators(host) is not None), None)
