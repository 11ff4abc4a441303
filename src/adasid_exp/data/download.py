"""Fetches the public Amazon Beauty files: ``python -m adasid_exp.data.download --to data/beauty``.

What has begun to come lies beside its final name as ``NAME.part`` and is resumed; a file gets its final
name only when its size, its digest and its form have been checked. ``downloaded.json`` records what came.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import logging
import os
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adasid_exp.artifacts.store import file_digest
from adasid_exp.data.amazon_images import IMAGE_RECORD
from adasid_exp.data.policy import one_line
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

MANIFEST = Path(__file__).with_name("beauty_files.json")
RECORD = "downloaded.json"
BLOCK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte after which a mirror is given up."""
ATTEMPTS = 5
"""Times a mirror is asked to go on after it broke off."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        name: its name in the folder.
        urls: mirrors, in the order they are tried.
        size: bytes; None: whatever the server announces.
        sha256: hex; None: record what came and say so.
        optional: whether the data can be read without it.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None
    sha256: str | None
    optional: bool


class UnsuitableError(Exception):
    """What a mirror sent is not the file."""


def manifest(path: Path) -> list[RemoteFile]:
    """The files a manifest lists."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    return [RemoteFile(**{**entry, "urls": tuple(entry["urls"])}) for entry in entries]


def download(files: Sequence[RemoteFile], folder: Path) -> None:
    """Makes sure that every file lies in ``folder``, whole and checked; those that do are left alone.

    Raises:
        UserError: no mirror gave a file that is not optional, or one that is there is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / file.name
        if target.is_file():
            _check_present(file, target)
            log.info("%s is there already, %s", target, _checked(file))
            continue
        problems = fetch(file, target)
        if problems is not None and not file.optional:
            raise UserError(_unreachable(files, file, folder, problems))
        if problems is not None:
            log.warning("%s could not be fetched, the data can be used without it (%s)", file.name, problems)


def fetch(file: RemoteFile, target: Path) -> str | None:
    """Tries the mirrors in turn; None when the file is in place, else what went wrong with each host."""
    problems: dict[str, None] = {}  # a set that keeps its order: two addresses of a host fail alike
    for url in file.urls:
        try:
            _fetch_from(url, file, target)
        except (OSError, http.client.HTTPException, UnsuitableError) as error:
            problems[f"{urlsplit(url).netloc}: {_reason(error)}"] = None
            continue
        return None
    return "; ".join(problems)


def _fetch_from(url: str, file: RemoteFile, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()
    _complete(url, part)
    try:
        digest = verify(file, part)
    except UnsuitableError as error:
        part.unlink()
        if not resumed:
            raise
        log.info("%s did not become whole by resuming (%s); starting again", target.name, error)
        return _fetch_from(url, file, target)
    os.replace(part, target)
    _record(target, url, digest)
    return log.info("%s: %s bytes, sha256 %s, %s", target, f"{target.stat().st_size:,}", digest, _checked(file))


def _complete(url: str, part: Path) -> None:
    """Goes on reading until all has come; a broken connection is taken up where it broke."""
    for attempt in range(ATTEMPTS):
        before = _size(part)
        try:
            return _read_on(url, part)
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            if attempt + 1 == ATTEMPTS or _size(part) == before:
                raise
            log.info("%s broke off at %s bytes (%s); going on", part.stem, f"{_size(part):,}", _reason(error))
    return None


def _read_on(url: str, part: Path) -> None:
    """Appends what ``part`` lacks; a server that cannot resume sends all of it anew."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
                return  # nothing beyond what is there: the checks say whether it is the file
            raise
    with answer:
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        with part.open("ab" if goes_on else "wb") as stream:
            _copy(answer, stream, expected=answer.headers.get("Content-Length"))


def _copy(answer: Any, stream: Any, *, expected: str | None) -> None:
    come = 0
    while block := answer.read(BLOCK):
        stream.write(block)
        come += len(block)
    if expected is not None and come != int(expected):
        raise http.client.IncompleteRead(b"", int(expected) - come)


def verify(file: RemoteFile, path: Path) -> str:
    """SHA-256 of a fetched file whose size, digest and form are right.

    Raises:
        UnsuitableError: they are not.
    """
    size, digest = path.stat().st_size, file_digest(path)
    if file.size is not None and size != file.size:
        raise UnsuitableError(f"{size:,} bytes came, the file has {file.size:,}")
    if file.sha256 is not None and digest != file.sha256:
        raise UnsuitableError(f"sha256 is {digest}, should be {file.sha256}")
    if file.name.endswith(".gz"):
        _check_gzip(path)
    elif file.name.endswith(".b") and (size == 0 or size % IMAGE_RECORD.itemsize):
        raise UnsuitableError(f"{size:,} bytes are no whole number of records of {IMAGE_RECORD.itemsize}")
    return digest


def _check_gzip(path: Path) -> None:
    """Reads to the end: gzip carries a checksum and the length of what it holds."""
    try:
        with gzip.open(path) as stream:
            while stream.read(BLOCK):
                continue
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnsuitableError(f"no whole gzip file ({error})") from error


def _check_present(file: RemoteFile, target: Path) -> None:
    recorded = _recorded(target.parent).get(file.name, {})
    wanted = RemoteFile(
        name=file.name,
        urls=file.urls,
        size=recorded.get("bytes") if file.size is None else file.size,
        sha256=recorded.get("sha256") if file.sha256 is None else file.sha256,
        optional=file.optional,
    )
    try:
        verify(wanted, target)
    except UnsuitableError as error:
        raise UserError(f"{target} is damaged: {error}; delete it and run make data-beauty again") from error


def _recorded(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _record(target: Path, url: str, digest: str) -> None:
    entry = {"url": url, "bytes": target.stat().st_size, "sha256": digest}
    known = {**_recorded(target.parent), target.name: entry}
    (target.parent / RECORD).write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _checked(file: RemoteFile) -> str:
    if file.sha256 is not None:
        return "digest as published"
    return f"form checked; no published digest is known, so what came is recorded in {RECORD}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return one_line(str(getattr(error, "reason", None) or error or type(error).__name__))


def _unreachable(files: Sequence[RemoteFile], failed: RemoteFile, folder: Path, problems: str) -> str:
    names = ", ".join(f"{file.name} (optional)" if file.optional else file.name for file in files)
    return one_line(
        f"cannot fetch {failed.name} ({problems}); on a machine with a network run make data-beauty, "
        f"or put {names} into {folder} by hand"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when every file is in place."""
    parser = argparse.ArgumentParser(prog="python -m adasid_exp.data.download", description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, help="folder for the files")
    parser.add_argument("--manifest", type=Path, default=MANIFEST, help="JSON list of files, mirrors and digests")
    parser.add_argument("--without-images", action="store_true", help="leave out the optional file of 4 GB")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = [file for file in manifest(chosen.manifest) if not (file.optional and chosen.without_images)]
    try:
        download(files, chosen.to)
    except UserError as error:
        log.error("%s", error)  # noqa: TRY400 - a line for a person, not a traceback
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
