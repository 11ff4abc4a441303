"""What holds for every test: one torch thread a process, since workers share the cores."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import hypothesis
import pytest
import torch

from adasid_exp.stages.preemption import heed_sigterm

torch.set_num_threads(1)
hypothesis.settings.register_profile("busy", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("busy")


@pytest.fixture
def sigterm() -> Iterator[None]:
    """SIGTERM is heeded as by the command."""
    former = signal.getsignal(signal.SIGTERM)
    heed_sigterm()
    yield
    signal.signal(signal.SIGTERM, former)
