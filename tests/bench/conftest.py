"""The harness: CPU time, one thread, every figure a ratio to a reference measured in turn with it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import pytest
import torch
from threadpoolctl import threadpool_limits

SLACK = 2.0
"""A figure fails only when it misses its goal by this factor: shared machines are noisy."""


@dataclass(frozen=True, kw_only=True)
class AtLeast:
    """Reference seconds / our seconds must reach ``goal``."""

    goal: float
    sign = "≥"

    def ratio(self, ours: float, reference: float) -> float:
        return reference / ours

    def met(self, ratio: float, slack: float = 1.0) -> bool:
        return ratio >= self.goal / slack


@dataclass(frozen=True, kw_only=True)
class AtMost:
    """Our seconds / reference seconds must not exceed ``goal``."""

    goal: float
    sign = "≤"

    def ratio(self, ours: float, reference: float) -> float:
        return ours / reference

    def met(self, ratio: float, slack: float = 1.0) -> bool:
        return ratio <= self.goal * slack


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table; seconds are CPU seconds, medians over rounds."""

    name: str
    against: str
    ours_seconds: float
    reference_seconds: float
    ratio: float
    goal: str
    verdict: str
    note: str


class Comparison:
    """Times ours with the library's harness, and the reference before each round: both meet the same noise.

    Args:
        benchmark: pytest-benchmark's fixture; its JSON keeps the reference beside our time.
        figures: where the table's lines gather.
    """

    def __init__(self, benchmark: Any, figures: list[Figure]) -> None:
        self.benchmark, self.figures = benchmark, figures

    def __call__(
        self,
        name: str,
        goal: AtLeast | AtMost,
        *,
        ours: Callable[[], Any],
        reference: Callable[[], Any],
        against: str,
        rounds: int = 5,
        warmup: int = 1,
        ours_units: float = 1.0,
        reference_units: float = 1.0,
        note: str = "",
    ) -> None:
        """Compare the seconds of one unit of work; a call of ``ours`` does ``ours_units`` of it."""
        reference_times: list[float] = []

        def timed_reference() -> None:
            start = time.process_time()
            reference()
            reference_times.append(time.process_time() - start)

        try:
            self.benchmark.pedantic(ours, setup=timed_reference, rounds=rounds, warmup_rounds=warmup)
        except pytest.skip.Exception:
            self.benchmark.has_error = True  # left out for want of a package: there are no times to save
            raise
        self.record(
            name,
            goal,
            ours=self.benchmark.stats.stats.median / ours_units,
            reference=median(reference_times[warmup:]) / reference_units,
            against=against,
            note=note,
        )

    def record(
        self,
        name: str,
        goal: AtLeast | AtMost,
        *,
        ours: float,
        reference: float,
        against: str,
        note: str,
        held: bool = True,
    ) -> None:
        """Put a measured pair into the table; where ``held``, hold it to its goal with slack."""
        ratio = goal.ratio(ours, reference)
        verdict = "met" if goal.met(ratio) else "within slack" if goal.met(ratio, SLACK) else "MISSED"
        figure = Figure(
            name=name,
            against=against,
            ours_seconds=ours,
            reference_seconds=reference,
            ratio=ratio,
            goal=f"{goal.sign} {goal.goal:g}",
            verdict=verdict,
            note=note,
        )
        self.figures.append(figure)
        self.benchmark.extra_info.setdefault("figures", []).append(asdict(figure))
        assert not held or goal.met(ratio, SLACK), (
            f"{name}: {ratio:.2f}, goal {goal.sign} {goal.goal} with slack {SLACK}"
        )


_FIGURES = pytest.StashKey[list[Figure]]()


@pytest.fixture
def compare(benchmark, request):
    return Comparison(benchmark, request.config.stash.setdefault(_FIGURES, []))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


def pytest_addoption(parser):
    parser.addoption("--bench-summary", default="results/bench.json", help="where the table goes as JSON")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.benchmark(timer=time.process_time))


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.pop("node", None)
    machine_info |= {"threads": 1, "torch": torch.__version__}


def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash.get(_FIGURES, [])
    if not figures:
        return
    rows = [("figure", "against", "ours", "reference", "ratio", "goal", "verdict", "note")]
    rows += [
        (
            figure.name,
            figure.against,
            f"{figure.ours_seconds * 1e3:.4g} ms",
            f"{figure.reference_seconds * 1e3:.4g} ms",
            f"{figure.ratio:.3g}",
            figure.goal,
            figure.verdict,
            figure.note,
        )
        for figure in figures
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    terminalreporter.section("cost: CPU time, one thread, medians of interleaved rounds")
    for row in rows:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    path = Path(config.getoption("--bench-summary"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=1, ensure_ascii=False))
    terminalreporter.write_line(f"written to {path}")
