"""Where pieces of work run: in this process, in a few, or on the machines of a Ray cluster."""

from __future__ import annotations

import importlib
import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cached_property
from typing import Any, TypeVar

from adasid_exp.types import UserError

Job = TypeVar("Job")
Work = Callable[[Job], Any]


class Engine(ABC):
    """Calls a function for each of many jobs; the jobs' outcomes are files, so their order is free."""

    @abstractmethod
    def map(self, work: Work[Job], jobs: Sequence[Job]) -> Iterator[Job]:
        """Yields each job when it is done; the first exception of a job ends the whole.

        ``work`` is a function of a module and jobs can be pickled.
        """


class Local(Engine):
    """This machine.

    Args:
        workers: processes; 1 works in this one.
    """

    def __init__(self, *, workers: int) -> None:
        self.workers = workers

    def map(self, work: Work[Job], jobs: Sequence[Job]) -> Iterator[Job]:
        """See `Engine.map`."""
        if self.workers == 1 or len(jobs) < 2:
            for job in jobs:
                work(job)
                yield job
            return
        futures = {self._pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        finally:
            for future in futures:
                future.cancel()

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        """Started once, since a process takes seconds; spawned, since polars' threads do not survive a fork."""
        return ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))


class Ray(Engine):
    """A Ray cluster whose machines all see the folders the jobs name.

    Args:
        address: of the cluster: ``auto``, ``ray://host:port``; None starts one on this machine.
        cpus: of a task.
        in_flight: tasks handed out at a time.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, *, address: str | None, cpus: float, in_flight: int) -> None:
        self.address, self.cpus, self.in_flight = address, cpus, in_flight

    def map(self, work: Work[Job], jobs: Sequence[Job]) -> Iterator[Job]:
        """See `Engine.map`."""
        ray = self._ray()
        remote = ray.remote(num_cpus=self.cpus)(work)
        waiting = list(reversed(jobs))
        running: dict[Any, Job] = {}
        while waiting or running:
            while waiting and len(running) < self.in_flight:
                job = waiting.pop()
                running[remote.remote(job)] = job
            (done,), _ = ray.wait(list(running), num_returns=1)
            try:
                ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            yield running.pop(done)

    def _ray(self) -> Any:
        try:
            ray = importlib.import_module("ray")
        except ImportError as error:
            raise UserError("engine=ray needs Ray: pip install 'adasid-exp[ray]', or use engine=local") from error
        if not ray.is_initialized():
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        return ray
