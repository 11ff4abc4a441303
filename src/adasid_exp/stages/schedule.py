"""Making many artifacts with several processes: each as soon as its inputs are there, none twice."""

from __future__ import annotations

import logging
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import active_children, get_context
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict

from adasid_exp.artifacts.failures import forget_failure, record_failure
from adasid_exp.artifacts.store import Store
from adasid_exp.stages.base import Stage
from adasid_exp.stages.limits import check_numbers
from adasid_exp.stages.locations import CONF
from adasid_exp.stages.preemption import Preempted, heed_sigterm
from adasid_exp.stages.ranks import GRACE
from adasid_exp.types import UserError

log = logging.getLogger(__name__)


@cache
def stage_of(overrides: tuple[str, ...]) -> Stage:
    """The stage that ``overrides`` compose; composed once a process.

    A last override of the seed is set afterwards: the seeds of a cell share one composition, which takes a third of
    a second.

    Raises:
        UserError: the overrides do not compose.
    """
    *shared, last = overrides
    seed = last.removeprefix("seed=")
    if seed == last or not seed.isdecimal():
        cfg = _composed(overrides)
    else:
        cfg = deepcopy(_composed(tuple(shared)))
        cfg.seed = int(seed)
    check_numbers(cfg)
    stage: Stage = get_class(cfg.stage._target_)(cfg)
    if isinstance(stage, Stage):
        _share(stage, {})
    return stage


def _share(stage: Stage, known: dict[str, Stage]) -> None:
    """Lets stages that stand several times above ``stage`` be one object, so that each is named and hashed once."""
    for role, above in stage.upstream.items():
        own = {name: value for name, value in vars(above).items() if not isinstance(value, DictConfig | dict)}
        key = f"{type(above).__qualname__} {id(above.cfg)} {sorted(own.items())}"
        if key not in known:
            known[key] = above
            _share(above, known)
        stage.upstream[role] = known[key]


@cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    """`_hydra_composed`; what differs in nothing but stage and task shares one composition."""
    stages, tasks = ([text for text in overrides if text.startswith(group)] for group in ("stage=", "task="))
    node = _stage_node(stages[-1].removeprefix("stage=")) if stages else None
    rest = tuple(text for text in overrides if text not in (*stages, *tasks))
    plain = all(text.removeprefix("task=").isidentifier() for text in tasks)
    if node is None or not plain or any(text.lstrip("+~").startswith(("stage", "task")) for text in rest):
        return _hydra_composed(overrides)
    cfg = deepcopy(_hydra_composed(rest))
    with open_dict(cfg):
        cfg.stage = node
        for text in tasks:
            cfg.task = text.removeprefix("task=")
    return cfg


def _stage_node(name: str) -> DictConfig | None:
    """The choice ``name`` of the group `stage`; None where it takes hydra to read it."""
    path = CONF / "stage" / f"{name}.yaml"
    node = OmegaConf.load(path) if path.is_file() else None
    return node if isinstance(node, DictConfig) and "defaults" not in node else None


@cache
def _hydra_composed(overrides: tuple[str, ...]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        try:
            return compose("config", overrides=list(overrides))
        except Exception as error:  # noqa: BLE001 - hydra raises a dozen kinds, all of them the user's
            raise UserError(f"{' '.join(overrides)}: {' '.join(str(error).split())}") from error


@dataclass(frozen=True, kw_only=True)
class Job:
    """One artifact to make.

    Attributes:
        signature, title: of the artifact.
        overrides: compose the cell it belongs to.
        needs: signatures that must be there first.
    """

    signature: str
    title: str
    overrides: tuple[str, ...]
    needs: frozenset[str]


@dataclass
class Progress:
    """What has happened so far; ``failed`` maps a job's title to its one-line reason."""

    total: int
    done: int = 0
    running: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def jobs_of(cells: Sequence[tuple[str, ...]], store: Store) -> list[Job]:
    """The artifacts that the cells need and the store lacks, each once, inputs first."""
    jobs: dict[str, Job] = {}
    for overrides in cells:
        for stage in stage_of(overrides).walk():
            if stage.signature in jobs or store.find(stage.name, stage.signature):
                continue
            jobs[stage.signature] = Job(
                signature=stage.signature,
                title=stage.title,
                overrides=overrides,
                needs=frozenset(upstream.signature for upstream in stage.upstream.values()),
            )
    return list(jobs.values())


def make_one(job: Job, root: Path) -> str | None:
    """Runs in a worker: makes the artifact and returns None, or the reason it could not, which the store remembers.

    Raises:
        Preempted: SIGTERM arrived; a training's state is saved.
    """
    reason = _made(job, root)
    if reason is None:
        forget_failure(root, job.signature)
    else:
        _remember(job, reason, root)
    return reason


def _remember(job: Job, reason: str, root: Path) -> None:
    try:
        record_failure(root, signature=job.signature, title=job.title, reason=reason, overrides=job.overrides)
    except OSError as error:  # a full disk may be why it failed
        log.warning("the store cannot note that %s failed: %s", job.title, error)


def _made(job: Job, root: Path) -> str | None:
    torch.set_num_threads(1)
    heed_sigterm()
    try:
        stages = {stage.signature: stage for stage in stage_of(job.overrides).walk()}
        if job.signature not in stages:
            return "the configuration or the data changed while the grid was running; run it again"
        stages[job.signature].ensure(Store(root))
    except UserError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever it is must reach the report and not lose the other cells
        report = root / "logs" / "errors" / f"{job.signature}.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(traceback.format_exc())
        return f"{traceback.format_exc().strip().splitlines()[-1]} (traceback in {report})"
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a worker without work has nothing to save
    return None


def _prepare_worker(initialise: Callable[[], None]) -> None:
    torch.set_num_threads(1)
    initialise()


def run_jobs(
    jobs: Sequence[Job],
    root: Path,
    processes: int,
    initialise: Callable[[], None],
    show: Callable[[Progress], None],
) -> dict[str, str]:
    """Makes ``jobs``; returns the reason of each failure by title. What hangs on a failure is not tried.

    Args:
        jobs: inputs before those who need them.
        root: the store.
        processes: how many at a time.
        initialise: run once in each worker.
        show: called after every change.
    """
    progress = Progress(total=len(jobs))
    waiting = {job.signature: job for job in jobs}
    lost: set[str] = set()
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _prepare_worker, (initialise,))
    running: dict[Future[str | None], Job] = {}
    try:
        while waiting or running:
            _drop_hopeless(waiting, lost, progress)
            _start_ready(waiting, running, pool, root, processes)
            progress.running = [job.title for job in running.values()]
            show(progress)
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                _settle(running.pop(future), future, lost, progress, root)
    except Preempted:
        _end_workers(GRACE)
        raise
    except KeyboardInterrupt:
        _end_workers(0.0)
        raise KeyboardInterrupt(f"{progress.done} of {progress.total} artifacts of this grid are finished") from None
    except UserError:
        _end_workers(0.0)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    progress.running = []
    show(progress)
    return progress.failed


def _end_workers(grace: float) -> None:
    """Asks workers to save their state, if there is time, and kills those that are left."""
    workers = active_children()
    deadline = time.monotonic() + grace
    if grace:
        for worker in workers:
            worker.terminate()
    while time.monotonic() < deadline and any(worker.is_alive() for worker in workers):
        time.sleep(0.05)
    for worker in workers:
        worker.kill()


def _drop_hopeless(waiting: dict[str, Job], lost: set[str], progress: Progress) -> None:
    for job in list(waiting.values()):  # in order, so that losses travel downstream in one pass
        if job.needs & lost:
            lost.add(job.signature)
            progress.failed[job.title] = "an input of it failed"
            del waiting[job.signature]


def _start_ready(
    waiting: dict[str, Job],
    running: dict[Future[str | None], Job],
    pool: ProcessPoolExecutor,
    root: Path,
    processes: int,
) -> None:
    unfinished = {*waiting, *(job.signature for job in running.values())}
    # Ctrl-C reaches the whole group, but the parent answers for all: workers are born deaf to it.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for job in list(waiting.values()):
            if len(running) < processes and not job.needs & unfinished:
                running[pool.submit(make_one, job, root)] = waiting.pop(job.signature)
    finally:
        signal.signal(signal.SIGINT, heard)


def _settle(job: Job, future: Future[str | None], lost: set[str], progress: Progress, root: Path) -> None:
    try:
        reason = future.result()
    except BrokenProcessPool as error:
        _remember(job, "its process died (out of memory?)", root)
        raise UserError(
            f"a worker died while making {job.title} (out of memory?); what is finished is kept: "
            "run the same command again, with stage.jobs=1 if memory is short"
        ) from error
    if reason is None:
        progress.done += 1
    else:
        lost.add(job.signature)
        progress.failed[job.title] = reason
