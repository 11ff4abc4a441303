"""Lines of a gzip file that may be damaged, each parsed on its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from adasid_exp.data.policy import (
    BadRows,
    Fault,
)

CHUNK = 1 << 17
"""Compressed bytes inflated at once."""
MALFORMED = Fault(
    reason="malformed line",
    problem="not a line of the expected form ({problem})",
    remedy="download the file again or mend the line",
)
TRUNCATED_GZIP = Fault(
    reason="damaged gzip, read up to the damage",
    problem="the gzip stream ends or breaks here ({problem})",
    remedy="download the file again",
)


def parsed_lines(file: Path, *, parse: Callable[[str], tuple[Any, ...]], bad: BadRows) -> Iterator[tuple[Any, ...]]:
    """``(row, *parse(line))`` of every line that is not blank; a line ``parse`` cannot take is reported."""
    row = 0
    for lines in blocks_of_lines(file, bad=bad):
        for line in lines:
            row += 1
            if not line or line.isspace():
                continue
            try:
                yield row, *parse(line if isinstance(line, str) else line.decode("utf-8"))
            except ValueError as error:
                bad.report(file=file, row=row, fault=MALFORMED, values={"problem": error})


def blocks_of_lines(file: Path, *, bad: BadRows) -> Iterator[list[str] | list[str | bytes]]:
    """The lines of a gzip file, some thousands at once; a line that is not UTF-8 stays bytes.

    A stream that ends too early is reported, and what came before is handed on without the broken last line.
    """
    rest, rows = b"", 0
    with file.open("rb") as stream:
        try:
            for block in _inflated(stream):
                whole, newline, rest = (rest + block).rpartition(b"\n")
                if newline:
                    lines = _decoded(whole)
                    yield lines
                    rows += len(lines)
        except (EOFError, zlib.error) as error:
            bad.report(file=file, row=rows + 1, fault=TRUNCATED_GZIP, values={"problem": error})
            return
    if rest:
        yield _decoded(rest)


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    """What a gzip stream holds, up to its last readable byte (``gzip.open`` drops the block that breaks).

    Raises:
        EOFError: it ends too early.
        zlib.error: it is damaged or no gzip.
    """
    data = stream.read(CHUNK)
    member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if data else None
    while data and member is not None:
        yield member.decompress(data)
        data = member.unused_data or stream.read(CHUNK)
        if data and member.eof:
            member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    if member is not None and not member.eof:
        raise EOFError("end of file before the end of the stream")


def _decoded(block: bytes) -> list[str] | list[str | bytes]:
    block = block.replace(b"\r\n", b"\n")
    try:
        return block.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return [_decoded_line(line) for line in block.split(b"\n")]


def _decoded_line(line: bytes) -> str | bytes:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line
