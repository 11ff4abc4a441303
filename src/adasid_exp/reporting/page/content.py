"""What the page of a report shows, as data: nothing here knows HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adasid_exp.reporting.table import Table


@dataclass(frozen=True, kw_only=True)
class Series:
    """An entry of a legend.

    Attributes:
        name: as the data call it.
        color: place in the page's palette; from its length on dashes tell colors apart.
        muted: whether it starts hidden.
    """

    name: str
    color: int
    muted: bool = False


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One pair of axes.

    Attributes:
        title: above it.
        alt: what it shows, for those who do not see it.
        spec: Vega-Lite, its data named ``source``.
        data: the columns of ``source``.
    """

    title: str
    alt: str
    spec: Mapping[str, Any]
    data: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Plots that share a legend; ``name`` is unique on the page, ``text`` says how to read it."""

    name: str
    title: str
    text: str
    legend: tuple[Series, ...]
    plots: tuple[Plot, ...]


@dataclass(frozen=True, kw_only=True)
class Test:
    """The focus row held against another.

    Attributes:
        part, metric: what was compared.
        focus, against: labels of the rows.
        difference, low, high, p_value: focus minus the other, its interval, two-sided p.
        users, seeds: what it rests on.
    """

    __test__ = False  # for pytest

    part: str
    metric: str
    focus: str
    against: str
    difference: float
    low: float
    high: float
    p_value: float
    users: int
    seeds: tuple[int, int]

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a cell of the table says of its distance to the focus row: a sign and the sentence behind it."""

    sign: str
    text: str


@dataclass(frozen=True, kw_only=True)
class GridView:
    """One grid.

    Attributes:
        name, table: as in `reporting.table`.
        focus: name of the row the others are held against, or None.
        references: rows that are no methods.
        marks: significance by row and column ``(part, key)``.
        tests: every comparison.
        verdicts: those against the best of the others.
        figures: to be drawn.
        done, total: runs in the store and runs the grid has.
    """

    name: str
    table: Table
    focus: str | None
    references: frozenset[str]
    marks: Mapping[tuple[str, str, str], Mark]
    tests: Sequence[Test]
    verdicts: Sequence[Test]
    figures: Sequence[Figure]
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A logged metric: epochs finished, steps taken, values."""

    epoch: Sequence[float]
    step: Sequence[int]
    value: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A finished artifact: what it was made with.

    Attributes:
        stage, label, signature: its name.
        settings: flattened, text by dotted key.
        provenance: the same of where it was made.
        metrics: its figures, those that a panel shows.
        curves: what its training logged, by metric.
    """

    stage: str
    label: str
    signature: str
    settings: Mapping[str, str]
    provenance: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Curve]


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A finished cell of a grid: names and titles, its artifacts by role, its own figures by column title."""

    grid: str
    grid_title: str
    row: str
    label: str
    part_title: str
    seed: int
    roles: Mapping[str, str]
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A slot of a codebook: entropy over ln K, share of codes in use, share of items that use the slot."""

    modality: str
    size: int
    entropy_ratio: float
    utilization: float
    load: float


@dataclass(frozen=True, kw_only=True)
class Collision:
    """Items that share one SID, the most popular first."""

    sid: str
    size: int
    examples: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class CodebookView:
    """The codes of one tokenizer: ``facts`` are name and text of its main figures."""

    name: str
    title: str
    facts: Sequence[tuple[str, str]]
    slots: Sequence[Slot]
    figures: Sequence[Figure]
    collisions: Sequence[Collision]


@dataclass(frozen=True, kw_only=True)
class FailureView:
    """What could not be made, the reason, when, and the runs that wait for it."""

    title: str
    reason: str
    when: str
    runs: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class MissingView:
    """Runs that a row lacks: ``state`` is failed, begun or not run."""

    grid: str
    row: str
    part: str
    seeds: str
    state: str


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What the artifacts of one stage took; None where CPU time was not measured for each."""

    stage: str
    artifacts: int
    seconds: float
    cpu_seconds: float | None
    peak_memory_mb: float


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the numbers come from.

    Attributes:
        facts: name and text: command, commit, hardware, versions, when.
        digests: file, bytes and SHA-256 of what the data were read from and prepared to.
        costs: by stage.
    """

    facts: Sequence[tuple[str, str]]
    digests: Sequence[tuple[str, str, str]]
    costs: Sequence[StageCost]


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole page.

    Attributes:
        title, data: heading and data set.
        lead: name and text of the figures at its head.
        grids: those with something to show.
        skipped: grid and reason, of those that were left out.
        runs, artifacts: what can be compared.
        dashboard: sections and panels of learning curves, as plain data.
        codebooks, failures, missing, provenance: the rest.
    """

    title: str
    data: str
    lead: Sequence[tuple[str, str]]
    grids: Sequence[GridView]
    skipped: Sequence[tuple[str, str]]
    runs: Sequence[RunView]
    artifacts: Sequence[Artifact]
    dashboard: Sequence[Mapping[str, Any]]
    codebooks: Sequence[CodebookView]
    failures: Sequence[FailureView]
    missing: Sequence[MissingView]
    provenance: Provenance
