"""The public Amazon files of 2014 (McAuley et al. 2015): reviews, metadata, image features."""

from __future__ import annotations

import ast
import html
import json
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa

from adasid_exp.data.digests import FileDigests
from adasid_exp.data.policy import (
    NOT_FINITE,
    ROW,
    BadRows,
    Fault,
    check_interactions,
    check_items,
    check_known_items,
    fill_with_mean,
    finite_rows,
    left_out,
)
from adasid_exp.data.raw import RawTables, Reader, with_liked
from adasid_exp.types import UserError

REVIEW_COLUMNS = {
    "reviewerID": pl.String,
    "asin": pl.String,
    "unixReviewTime": pl.Int64,
    "overall": pl.Float64,
}
NAMES = {"reviewerID": "user_id", "asin": "item_id", "unixReviewTime": "timestamp", "overall": "rating"}
ITEM_SCHEMA = pa.schema(
    {
        ROW: pa.uint32(),
        "item_id": pa.large_string(),
        "title": pa.large_string(),
        "brand": pa.large_string(),
        "price": pa.float64(),
        "categories": pa.large_list(pa.large_string()),
        "description": pa.large_string(),
    }
)
"""Of the metadata's table; an arrow schema, since arrow takes lists of lists ten times faster than polars."""
META_FIELDS = ("asin", "title", "brand", "price", "categories", "description")
IMAGE_DIM = 4096
IMAGE_RECORD = np.dtype([("asin", "S10"), ("vector", "<f4", (IMAGE_DIM,))])
CHUNK = 1 << 17
"""Compressed bytes inflated at once."""
IMAGE_BLOCK = 64 << 20
"""Bytes of image records mapped at once."""

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
TRUNCATED_IMAGES = Fault(
    reason="incomplete image record",
    problem=f"the last record has {{size}} of {IMAGE_RECORD.itemsize} bytes",
    remedy="download the file again",
)
TWO_IMAGES = Fault(
    reason="second image record of an item",
    problem="an earlier record of the same item holds other numbers",
    remedy="keep one of them",
)


class Amazon(Reader):
    """One category of the 2014 release. The catalogue is the items that the reviews name, sorted by id.

    Args:
        root: folder of the files.
        reviews: name of the file of JSON lines (``reviews_*.json.gz``).
        meta: name of the file of Python-literal lines (``meta_*.json.gz``).
        images: name of the file of image features (``image_features_*.b``), read where it is there.
        on_bad_row: "error" stops at the first bad row, "skip" leaves bad rows out and counts them.
        digest_cache: JSON file that remembers the files' digests; None hashes them each time.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        reviews: str,
        meta: str,
        images: str,
        on_bad_row: str,
        digest_cache: str | Path | None,
    ) -> None:
        BadRows(on_bad_row)
        self.reviews, self.meta, self.images = (Path(root) / name for name in (reviews, meta, images))
        self.on_bad_row = on_bad_row
        self.digests = FileDigests(cache=digest_cache)

    def fingerprint(self) -> dict[str, Any]:
        """Digests of the files, and the policy.

        Raises:
            UserError: the reviews or the metadata are missing.
        """
        self._require()
        files = [self.reviews, self.meta, *([self.images] if self.images.is_file() else [])]
        return {
            "reader": "amazon",
            "on_bad_row": self.on_bad_row,
            "files": {file.name: self.digests.of(file) for file in files},
        }

    def read(self) -> RawTables:
        """Reads and checks the files.

        Raises:
            UserError: a file is missing or empty; a row is bad and the policy is to stop.
        """
        self._require()
        bad = BadRows(self.on_bad_row)
        rows = read_reviews(self.reviews, bad=bad)
        items = check_items(read_meta(self.meta, wanted=set(rows["item_id"]), bad=bad), file=self.meta, bad=bad)
        rows = check_known_items(rows, items, file=self.reviews, catalogue=self.meta, bad=bad)
        items = items.join(rows.select("item_id").unique(), on="item_id", how="semi").sort("item_id").drop(ROW)
        arrays, notes = self._vision(items["item_id"].to_list(), bad)
        notes = [*notes, f"reviews {self.reviews.name} and metadata {self.meta.name} (Amazon, 2014 release)"]
        return RawTables(
            interactions=with_liked(rows),
            items=items,
            arrays=arrays,
            skipped=bad.skipped,
            notes=(*notes, *left_out(bad.skipped)),
        )

    def _require(self) -> None:
        for file in (self.reviews, self.meta):
            if not file.is_file():
                raise UserError(
                    f"{file} is missing; {file.parent} needs {self.reviews.name}, {self.meta.name} "
                    f"and, for the modality vision, {self.images.name}"
                )

    def _vision(self, item_ids: Sequence[str], bad: BadRows) -> tuple[dict[str, np.ndarray], list[str]]:
        if not self.images.is_file():
            return {}, [f"no image features ({self.images.name} is not there)"]
        vectors, known = read_images(self.images, item_ids=item_ids, bad=bad)
        lacking = int((~known).sum())
        filled = f", {lacking:,} items without a record given the mean of the others" if lacking else ""
        return {"vision": vectors}, [f"vision: image features {self.images.name}, dim {IMAGE_DIM}{filled}"]


def read_reviews(file: Path, *, bad: BadRows) -> pl.DataFrame:
    """Checked ``row, user_id, item_id, timestamp, rating`` in file order.

    Polars reads the file at once; only where it, or a check, stumbles are the lines read one by one, to
    name the row or to leave it out.
    """
    try:
        rows = _whole_file(file)
        checked = check_interactions(rows, file=file, bad=BadRows("error"))
    except (pl.exceptions.PolarsError, OSError, UserError):
        checked = check_interactions(_line_by_line(file, bad), file=file, bad=bad)
    if not checked.height:
        raise UserError(f"{file} is empty: no review can be used; download the file again")
    return checked


def _whole_file(file: Path) -> pl.DataFrame:
    frame = pl.scan_ndjson(file, schema=REVIEW_COLUMNS).select(list(NAMES)).collect()
    return frame.rename(NAMES).with_row_index(ROW, offset=1)


def _line_by_line(file: Path, bad: BadRows) -> pl.DataFrame:
    schema = {ROW: pl.UInt32, **{NAMES[name]: dtype for name, dtype in REVIEW_COLUMNS.items()}}
    rows = list(parsed_lines(file, parse=review_of, bad=bad))
    return pl.DataFrame(rows, schema=schema, orient="row")


def review_of(line: str) -> tuple[str | None, str | None, int | None, float | None]:
    """User, item, unix seconds and rating of one line.

    Raises:
        ValueError: the line is no JSON object or a field is of another type.
    """
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    user, item, time, rating = (record.get(name) for name in NAMES)
    if isinstance(time, bool) or not isinstance(time, int | None):
        raise ValueError(f"unixReviewTime {time!r} is no integer")
    if isinstance(rating, bool) or not isinstance(rating, int | float | None):
        raise ValueError(f"overall {rating!r} is no number")
    return _name(user), _name(item), time, rating


def read_meta(file: Path, *, wanted: AbstractSet[str] | None, bad: BadRows) -> pl.DataFrame:
    """Items of the metadata as ``ITEM_SCHEMA`` in file order; all are checked, ``wanted`` ones are kept.

    Raises:
        UserError: the file holds no line, or a bad one and the policy is to stop.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # odd escapes in a description are the data's affair
        lines = parsed_lines(file, parse=lambda line: item_of(fields_of(line), wanted=wanted), bad=bad)
        cells = [cell for row in lines if len(row) > 1 for cell in row]  # flat: no tuples for the collector to walk
    if not cells:
        raise UserError(f"{file} is empty: it describes no item of the reviews; download the file again")
    width = len(ITEM_SCHEMA)
    columns = [pa.array(cells[place::width], type=ITEM_SCHEMA.types[place]) for place in range(width)]
    return pl.DataFrame(pa.table(columns, schema=ITEM_SCHEMA))


def item_of(fields: dict[str, Any], *, wanted: AbstractSet[str] | None) -> tuple[Any, ...]:
    """One item in the order of ``ITEM_SCHEMA``; nothing where it is not wanted.

    Raises:
        ValueError: a field is of another type.
    """
    item = _name(fields.get("asin"))
    if wanted is not None and item is not None and item not in wanted:
        return ()
    price = fields.get("price")
    if isinstance(price, bool) or not isinstance(price, int | float | None):
        raise ValueError(f"price {price!r} is no number")
    title, brand, description = (
        _text(fields.get("title")),
        _text(fields.get("brand")),
        fields.get("description"),
    )
    return item, title, brand, price, _category_path(fields.get("categories")), _text(description)


def _grammar() -> re.Pattern[str]:
    """One ``'key': value`` of a dict's repr with the separator in front; what is unsure it does not match."""
    no = r"\\\r\x00"  # neither escapes nor what Python does not allow inside a string
    escape = r"""\\(?:[\\'"abfnrtv]|x[0-9a-f]{2}|u[0-9a-f]{4})"""
    string = rf"'[^'{no}]*(?:{escape}[^'{no}]*)*'" + rf'|"[^"{no}]*(?:{escape}[^"{no}]*)*"'
    plain = rf"(?:'[^'{no}]*+'|\"[^\"{no}]*+\")"
    number = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
    names = rf"\[(?:{plain}(?:, )?)*+\]"
    nested = rf"\[(?:{names}(?:, )?)*+\]|{names}|\{{(?:{plain}: (?:{names}|{number})(?:, )?)*+\}}"
    return re.compile(rf"(?:^\{{|, )'(\w+)': ({string}|{nested}|{number}|None)")


ENTRY = _grammar()
BESIDE_KEY_AND_VALUE = len("{'': ") + len("}")
"""Characters an entry has beside key and value; n - 1 separators ``", "`` make it 6 n in all."""


def fields_of(line: str) -> dict[str, Any]:
    """The fields of one metadata line: by pattern where that explains every character, else as a literal.

    Raises:
        ValueError: the line is no Python literal of a dict.
    """
    entries = ENTRY.findall(line)
    explained = len("".join(map("".join, entries))) + BESIDE_KEY_AND_VALUE * len(entries)
    if explained == len(line) and line[-1:] == "}":
        found = dict(entries)
        return {name: _value(found[name]) for name in META_FIELDS if name in found}
    record = _literal(line)
    if not isinstance(record, dict):
        raise ValueError("not a Python dict")
    return {name: record[name] for name in META_FIELDS if name in record}


def _value(text: str) -> Any:
    first = text[0]
    if first in "'\"":
        return _unescaped(text[1:-1]) if "\\" in text else text[1:-1]
    if first == "[":
        return _repeated(text)
    return None if text == "None" else _literal(text) if first == "{" else _number(text)


def _unescaped(text: str) -> str:
    """The inside of a string literal whose escapes the grammar has seen; ten times faster than a literal."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape")


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


@lru_cache(maxsize=1 << 14)
def _repeated(text: str) -> Any:
    """A category tree; a catalogue has thousands of items but only hundreds of these."""
    return _literal(text)


def _name(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"id {value!r} is no text")


def _text(value: object) -> str | None:
    """Text without HTML's ``&amp;``; a list of texts is joined, an empty one counts as absent."""
    if isinstance(value, str):
        return (html.unescape(value) if "&" in value else value) or None
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return _text(" ".join(value))
    if value is not None:
        raise ValueError(f"{value!r} is no text")
    return None


def _category_path(value: object) -> tuple[str | None, ...] | None:
    """The first path of the tree without its root, which is the name of the file's category."""
    if not isinstance(value, list | None):
        raise ValueError(f"categories {value!r} is no list")
    path = value[0] if value and isinstance(value[0], list) else value
    return tuple([_text(entry) for entry in path[1:]]) if path else None


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


def read_images(file: Path, *, item_ids: Sequence[str], bad: BadRows) -> tuple[np.ndarray, np.ndarray]:
    """Image features of the items, float32 ``[items, 4096]``, and which items have a record, bool.

    The file (4 GB) is mapped block by block: of the records of other items only the id is touched.

    Args:
        file: records of a 10-byte id and 4,096 little-endian float32.
        item_ids: the catalogue, sorted.
        bad: the policy.
    """
    records, extra = divmod(file.stat().st_size, IMAGE_RECORD.itemsize)
    if extra:
        bad.report(file=file, row=records + 1, fault=TRUNCATED_IMAGES, values={"size": extra})
    if not records:
        raise UserError(f"{file} is empty; download the file again or remove it")
    ids = np.array([item.encode() for item in item_ids], dtype=np.bytes_)
    table = _ImageTable(items=len(ids), file=file, bad=bad)
    block = max(1, IMAGE_BLOCK // IMAGE_RECORD.itemsize)
    for first in range(0, records, block):
        mapped = _records(file, first, min(block, records - first))
        names = np.ascontiguousarray(mapped["asin"])
        place = np.minimum(np.searchsorted(ids, names), len(ids) - 1)
        hits = np.flatnonzero(ids[place] == names)
        if len(hits):
            table.take(place[hits], mapped["vector"][hits], rows=first + hits + 1)
    return table.filled(), table.known


def _records(file: Path, first: int, count: int) -> np.ndarray:
    return np.memmap(file, dtype=IMAGE_RECORD, mode="r", offset=first * IMAGE_RECORD.itemsize, shape=(count,))


class _ImageTable:
    """Gathers the catalogue's vectors from blocks of records; the first usable record of an item counts."""

    def __init__(self, *, items: int, file: Path, bad: BadRows) -> None:
        self.vectors = np.zeros((items, IMAGE_DIM), dtype=np.float32)
        self.known = np.zeros(items, dtype=bool)
        self.file, self.bad = file, bad

    def take(self, place: np.ndarray, vectors: np.ndarray, *, rows: np.ndarray) -> None:
        """Records of the items ``place``, which lie at ``rows`` (from 1) of the file."""
        good = finite_rows(vectors)
        self._report(NOT_FINITE, rows[~good])
        place, vectors, rows = place[good], vectors[good], rows[good]
        new = np.zeros(len(place), dtype=bool)
        new[np.unique(place, return_index=True)[1]] = True
        new &= ~self.known[place]
        self.vectors[place[new]] = vectors[new]
        self.known[place] = True
        differs = (self.vectors[place] != vectors).any(axis=1)
        self._report(TWO_IMAGES, rows[differs])

    def filled(self) -> np.ndarray:
        """The vectors, those of items without a record being the mean of the others."""
        return self.vectors if self.known.all() else fill_with_mean(self.vectors, self.known)

    def _report(self, fault: Fault, rows: np.ndarray) -> None:
        if len(rows):
            self.bad.report(
                file=self.file,
                row=int(rows[0]),
                fault=fault,
                values={"value": "NaN or Inf"},
                more=len(rows) - 1,
            )
