"""Where and with what a result was made: commit, hardware, versions, time and memory."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import time
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torch", "lightning", "hydra-core", "polars", "numpy")


@cache
def commit() -> str:
    """Short commit of the checkout the package runs from, ``-dirty`` if changed; the version when installed."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return metadata.version("adasid-exp")


@cache
def hardware() -> str:
    """One line: processor, cores, memory, accelerators."""
    names = [line.split(":", 1)[1].strip() for line in _proc("cpuinfo") if line.startswith("model name")]
    total = next((int(line.split()[1]) for line in _proc("meminfo") if line.startswith("MemTotal")), 0)
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} x {processor}, {total / 2**20:.0f} GiB{_accelerators()}"


def _proc(name: str) -> list[str]:
    path = Path("/proc") / name
    return path.read_text().splitlines() if path.exists() else []


def _accelerators() -> str:
    count = torch.cuda.device_count()
    return f", {count} x {torch.cuda.get_device_name(0)}" if count else ""


@dataclass
class Meter:
    """Wall seconds, CPU seconds of all threads, and peak resident memory since it was made."""

    started: float = field(default_factory=time.perf_counter)
    cpu_started: float = field(default_factory=time.process_time)

    def __post_init__(self) -> None:
        # Linux lowers the high-water mark of a process when 5 is written here; elsewhere the
        # peak of the whole process is reported, which is an upper bound.
        reset = Path("/proc/self/clear_refs")
        if os.access(reset, os.W_OK):
            reset.write_text("5")

    def read(self) -> dict[str, Any]:
        """``seconds``, ``cpu_seconds`` and ``peak_memory_mb`` (MiB)."""
        return {
            "seconds": round(time.perf_counter() - self.started, 2),
            "cpu_seconds": round(time.process_time() - self.cpu_started, 2),
            "peak_memory_mb": round(peak_mb()),
        }


def peak_mb() -> float:
    """Peak resident memory in MiB since a `Meter` was made last, or of the whole process where that is not known."""
    for line in _proc("self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def provenance(meter: Meter) -> dict[str, Any]:
    """The record of one run, for a manifest."""
    return {
        "commit": commit(),
        "hardware": hardware(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **meter.read(),
    }
