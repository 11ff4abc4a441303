"""The public Amazon files of 2014 (McAuley et al. 2015): reviews, metadata, image features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adasid_exp.data.amazon_images import IMAGE_DIM, read_images
from adasid_exp.data.amazon_metadata import read_meta
from adasid_exp.data.amazon_reviews import read_reviews
from adasid_exp.data.digests import FileDigests
from adasid_exp.data.policy import (
    ROW,
    BadRows,
    check_items,
    check_known_items,
    left_out,
)
from adasid_exp.data.raw import RawTables, TableReader, with_liked
from adasid_exp.types import UserError


class Amazon(TableReader):
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
