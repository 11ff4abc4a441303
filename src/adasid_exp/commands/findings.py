"""Everything that is wrong with data, collected instead of stopping at the first row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import polars as pl

from adasid_exp.data.policy import ROW, BadRows, Fault, one_line
from adasid_exp.types import UserError

Found = TypeVar("Found")
LONGEST = 80
"""Characters of a value that are shown."""


@dataclass(kw_only=True)
class Finding:
    """One fault of one file.

    Attributes:
        file, reason, remedy: which file, what is wrong, the way out.
        count: rows (or, without rows, files) that have it.
        rows: number and problem of the first of them; a number is None where the file as a whole is meant.
    """

    file: str
    reason: str
    remedy: str
    count: int = 0
    rows: list[tuple[int | None, str]] = field(default_factory=list)


@dataclass
class Findings(BadRows):
    """A policy that notes every bad row.

    Attributes:
        shown: rows of each fault that are kept word for word.
        leave: whether rows found bad go on to the next check, so that each of a row's faults is found.
        found: in the order they came up.
    """

    shown: int = 5
    leave: bool = True
    found: list[Finding] = field(default_factory=list)

    def of(self, file: Path | str, reason: str, remedy: str) -> Finding:
        """The entry of a fault in a file, new or there."""
        for finding in self.found:
            if (finding.file, finding.reason) == (str(file), reason):
                return finding
        self.found.append(Finding(file=str(file), reason=reason, remedy=remedy))
        return self.found[-1]

    def report(
        self, *, file: Path | str, row: int | None, fault: Fault, values: Mapping[str, object], more: int = 0
    ) -> None:
        """Notes a fault (``1 + more`` times)."""
        finding = self.of(file, fault.reason, fault.remedy)
        finding.count += 1 + more
        if len(finding.rows) < self.shown:
            short = {name: str("" if value is None else value)[:LONGEST] for name, value in values.items()}
            finding.rows.append((row, one_line(fault.problem.format_map(short))))

    def drop(self, frame: pl.DataFrame, bad: pl.Expr, *, file: Path | str, fault: Fault) -> pl.DataFrame:
        """Notes the rows of ``frame`` for which ``bad`` holds; returns all rows, or (see `leave`) the others."""
        flags = frame.select(bad.fill_null(value=False).alias("bad"))["bad"]
        count = int(flags.sum())
        if not count:
            return frame
        first = frame.filter(flags).head(self.shown)
        for row in first.iter_rows(named=True):
            self.report(file=file, row=row[ROW], fault=fault, values=row)
        self.of(file, fault.reason, fault.remedy).count += count - first.height
        return frame if self.leave else frame.filter(~flags)

    def fatal(self, file: Path | str, task: Callable[[], Found]) -> Found | None:
        """``task()``; None where it cannot go on, which is noted."""
        try:
            return task()
        except UserError as error:
            problem, _, remedy = str(error).removeprefix(str(file)).lstrip(" ,:").rpartition("; ")
            finding = self.of(file, "cannot be read", remedy)
            finding.count += 1
            finding.rows.append((None, problem))
            return None
