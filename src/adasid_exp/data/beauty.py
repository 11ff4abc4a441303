"""Amazon Beauty, the 5-core of 2014: the public files or the open schema, with the counts asserted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from adasid_exp.data.amazon import Amazon
from adasid_exp.data.raw import RawTables, TableReader
from adasid_exp.data.tables import SUFFIXES, Tables
from adasid_exp.types import UserError

REVIEWS, META, IMAGES = "reviews_Beauty_5.json.gz", "meta_Beauty.json.gz", "image_features_Beauty.b"


class Beauty(TableReader):
    """A folder with the files of the 2014 release or with the tables of the open schema.

    Args:
        root: the folder.
        on_bad_row: "error" stops at the first bad row, "skip" leaves bad rows out and counts them.
        digest_cache: JSON file that remembers the files' digests; None hashes them each time.
        expected: how many ``users``, ``items`` and ``interactions`` there must be.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        on_bad_row: str,
        digest_cache: str | Path | None,
        expected: Mapping[str, int],
    ) -> None:
        self.root = Path(root)
        self.public = Amazon(
            root=root,
            reviews=REVIEWS,
            meta=META,
            images=IMAGES,
            on_bad_row=on_bad_row,
            digest_cache=digest_cache,
        )
        self.tables = Tables(root=root, on_bad_row=on_bad_row, digest_cache=digest_cache)
        self.expected = dict(expected)

    def fingerprint(self) -> dict[str, Any]:
        """What the reader that fits the folder depends on, and the expected counts."""
        return {**self.reader.fingerprint(), "expected": self.expected}

    def read(self) -> RawTables:
        """Reads, checks and counts.

        Raises:
            UserError: files are missing, a row is bad and the policy is to stop, or a count differs
                although no row was skipped.
        """
        raw = self.reader.read()
        wrong = self._differences(raw)
        if wrong and not raw.skipped:
            raise UserError(
                f"{self.root}: {'; '.join(wrong)}; fetch the file again (make data-beauty), "
                "or read other data with data=tables"
            )
        return replace(raw, notes=(*raw.notes, *wrong))

    @cached_property
    def reader(self) -> TableReader:
        """The reader that fits the folder.

        Raises:
            UserError: the folder holds neither kind of files, or both.
        """
        public = (self.root / REVIEWS).is_file() or (self.root / META).is_file()
        tables = any((self.root / f"interactions{suffix}").is_file() for suffix in SUFFIXES)
        if public and tables:
            raise UserError(f"{self.root} holds both {REVIEWS} and an interactions table; keep one of them")
        if not public and not tables:
            raise UserError(missing(self.root))
        return self.public if public else self.tables

    def _differences(self, raw: RawTables) -> list[str]:
        """For each count that is not as published: which file, how many, how many there should be."""
        found = {
            "users": raw.interactions["user_id"].n_unique(),
            "items": raw.items.height,
            "interactions": raw.interactions.height,
        }
        return [
            f"{self._source(what)} gives {found[what]:,} {what}, not {count:,} ({found[what] - count:+,})"
            for what, count in self.expected.items()
            if found[what] != count
        ]

    def _source(self, what: str) -> str:
        """The file a count is taken from; in the public files the reviews decide which items there are."""
        if self.reader is self.public:
            return REVIEWS
        return self.tables.file_of("items" if what == "items" else "interactions").name


def missing(root: Path) -> str:
    """The one line for a folder without the data."""
    return (
        f"no Amazon Beauty data in {root}: run `make data-beauty`, or put {REVIEWS}, {META} and "
        f"(optional, for images) {IMAGES} there, or interactions.parquet and items.parquet (see docs/data.md)"
    )
