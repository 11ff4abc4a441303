"""Several processes (ranks) that make one artifact: started here on one machine, or by torchrun or SLURM on many.

One process, the one a person started or rank 0 of torchrun's, walks the pipeline alone: it finds and claims
artifacts, makes what needs no training, and publishes. The ranks meet for the stages that train, and nowhere else,
so that no lock of the store is ever waited for by a rank another one waits for.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running as ensure_server
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running as ensure_tracker
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from torch import distributed as dist

from adasid_exp.artifacts.provenance import Meter
from adasid_exp.functional.ranks import own_rank
from adasid_exp.stages.preemption import RESUMABLE, SIGNALS, Preempted, heed_sigterm
from adasid_exp.stages.quiet import quiet
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another one within a training before it takes it for lost."""
FOREVER = timedelta(days=365)
"""How long ranks wait for the next training: other stages may take hours."""
GRACE = 60.0
"""Seconds that ranks have to save their state after SIGTERM."""
MOMENT = 5.0
"""Seconds that ranks have to end by themselves after one of them failed."""
PRELOADED = ("torch", "lightning", "hydra.utils")
"""What the process that ranks are forked from has imported, so that they start in less than a second.

Nothing of it runs threads: a fork copies the locks and not the threads that hold them. Polars does from its import on,
and a rank that then used it could wait for ever; ranks import it and this package themselves, in a third of a second.
"""
COST = "cost"
"""Where `make_together` puts what the ranks spent, beside the facts."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "NCCL", "gloo")
"""What the other ranks complain of when one is gone."""


class Work(Protocol):
    """What ranks make together: a stage."""

    cfg: Any

    @property
    def title(self) -> str: ...

    @property
    def signature(self) -> str: ...

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Seat:
    """The place of a process: its number among all and on its machine, and how many there are."""

    rank: int
    world: int
    local_rank: int
    local_world: int


@dataclass(frozen=True, kw_only=True)
class Order:
    """What rank 0 tells those who follow: make this, or, without ``stage``, the command is over."""

    stage: Work | None
    inputs: Mapping[str, Path]
    work: Path
    out: Path
    code: int = 0
    objective: float | None = None


def several(trainer: Mapping[str, Any]) -> bool:
    """Whether a `trainer` node asks for ranks, be it one."""
    return bool(trainer["strategy"] != "auto")


def external_seat() -> Seat | None:
    """The place that torchrun or SLURM (srun, submitit) gave this process; None if nobody did."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        names = {"rank": "RANK", "world": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_world": "LOCAL_WORLD_SIZE"}
        return Seat(**{field: int(os.environ[name]) for field, name in names.items()})
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ:
        return _slurm_seat()
    return None


def _slurm_seat() -> Seat:
    """That of a task of srun; the tasks meet on their step's first machine, at a port that is the step's own.

    By hand, since Lightning refuses ``srun --ntasks``. A job may run several steps, on some of its machines each.
    """
    step = {name: os.environ[f"SLURM_{name}"] for name in ("JOB_ID", "STEP_ID", "STEP_NODELIST", "STEP_NUM_NODES")}
    os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(step["STEP_NODELIST"]))
    os.environ.setdefault("MASTER_PORT", str(15000 + int(step["JOB_ID"][-4:]) + int(step["STEP_ID"])))
    rank, world, local = (int(os.environ[f"SLURM_{name}"]) for name in ("PROCID", "NTASKS", "LOCALID"))
    return Seat(rank=rank, world=world, local_rank=local, local_world=world // int(step["STEP_NUM_NODES"]))


def first_rank() -> bool:
    """Whether this process writes: rank 0, or the only one."""
    return own_rank() == 0


def make_together(stage: Work, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
    """Makes a stage's artifact with as many ranks as its configuration asks for; returns its facts and `COST`.

    Raises:
        UserError: a rank failed; the others have ended.
        Preempted: SIGTERM arrived; the state is saved.
    """
    order = Order(stage=stage, inputs=inputs, work=work, out=out)
    talk = conversation()
    return talk.make(order) if talk else launch(order)


def local_ranks(trainer: Mapping[str, Any]) -> int:
    """How many ranks this machine is to run.

    Raises:
        UserError: the configuration names several machines, or there is no device.
    """
    if trainer["num_nodes"] > 1:
        raise UserError(
            f"trainer.num_nodes={trainer['num_nodes']}: start the command on every machine with torchrun or srun "
            "(docs/distributed.md)"
        )
    devices = trainer["devices"]
    count = torch.cuda.device_count() if devices == "auto" else int(devices)
    if count < 1:
        raise UserError(f"trainer.devices={devices}: there is no such device here; trainer=ddp trains on the CPU")
    return count


# ---- ranks of this machine -------------------------------------------------------------------------------------


def launch(order: Order) -> dict[str, Any]:
    """Starts the ranks, waits for them, and passes on what they have to say."""
    assert order.stage is not None
    world = local_ranks(order.stage.cfg.trainer)
    with tempfile.TemporaryDirectory() as meeting:
        children: list[BaseProcess] = []
        try:
            for rank in range(world):
                children.append(_start(order, rank, world, Path(meeting)))
            first = _watch(children)
        except (Preempted, SystemExit):  # SystemExit: of submitit, which has put the job back into the queue
            for process in children:
                process.terminate()
            _end(children, GRACE)
            raise
        finally:
            _end(children, MOMENT)
        answers = [_heard(Path(meeting), rank) for rank in range(world)]
    codes = [process.exitcode for process in children]
    if not any(codes):
        return dict(answers[0][1] or {})
    if RESUMABLE in codes:
        raise Preempted("SIGTERM")
    raise UserError(_verdict(order.stage, first, codes, answers))


def _say(meeting: Path, rank: int, said: tuple[str, Any]) -> None:
    """Leaves a rank's last words: in a file, since a full pipe would keep it from ending until somebody reads."""
    partial = meeting / f"partial-{rank}"
    partial.write_bytes(pickle.dumps(said))
    partial.rename(meeting / f"said-{rank}")


def _heard(meeting: Path, rank: int) -> tuple[str, Any]:
    """What a rank had to say; nothing if it was killed."""
    path = meeting / f"said-{rank}"
    said: tuple[str, Any] = pickle.loads(path.read_bytes()) if path.exists() else ("", None)  # noqa: S301 - our own
    return said


def _start(order: Order, rank: int, world: int, meeting: Path) -> BaseProcess:
    seat = Seat(rank=rank, world=world, local_rank=rank, local_world=world)
    process = forking().Process(target=_run_rank, args=(order, seat, meeting))
    process.start()
    return process


def forking() -> ForkServerContext:
    """Processes that start at once, forked from one that has imported `PRELOADED` and done nothing.

    That one is deaf to what a scheduler sends to all processes of a job: it does not survive such a signal by itself,
    and without it nobody hears how a rank ended. What it starts is deaf too, until it unblocks `SIGNALS`.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    ensure_tracker()  # first, since it would unblock SIGTERM
    former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        ensure_server()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    return context


def _watch(processes: Sequence[BaseProcess]) -> int | None:
    """Waits until all ranks have ended well or one has not, and returns that one's number."""
    while any(process.exitcode is None for process in processes):
        connection.wait([process.sentinel for process in processes if process.exitcode is None])
        for rank, process in enumerate(processes):
            process.join(0)
            if process.exitcode:
                return rank
    return None


def _end(processes: Sequence[BaseProcess], seconds: float) -> None:
    """Gives processes some time to end and kills those that have not."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()


def _verdict(stage: Work, first: int | None, codes: Sequence[int | None], answers: Sequence[tuple[str, Any]]) -> str:
    """One line on what went wrong, from the rank that failed by itself and not for want of another."""
    told = [text for kind, text in answers if kind == "error"]
    if told:
        return str(told[0])
    crashes = [(rank, text) for rank, (kind, text) in enumerate(answers) if kind == "crash"]
    own = [(rank, text) for rank, text in crashes if not any(mark in text.splitlines()[-1] for mark in LOST)]
    if own:
        rank, text = own[0]
        report = Path(stage.cfg.runs) / "logs" / "errors" / f"{stage.signature}.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(text)
        how = f"{text.strip().splitlines()[-1]} (traceback in {report})"
    else:
        silent = [rank for rank, (kind, _) in enumerate(answers) if not kind and codes[rank]]
        rank = silent[0] if silent else first or 0
        code = codes[rank] or 0
        how = f"killed by {signal.Signals(-code).name} (out of memory?)" if code < 0 else f"ended with code {code}"
    return (
        f"rank {rank} of {len(codes)} failed while making {stage.title}: {how}; the others were stopped, "
        "the same command goes on from the last checkpoint"
    )


def _run_rank(order: Order, seat: Seat, meeting: Path) -> None:
    """The life of a rank that `launch` started."""
    assert order.stage is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent answers for all
    faulthandler.register(signal.SIGUSR1)  # `kill -USR1 PID` shows where a rank waits
    threading.Thread(target=_die_with_parent, daemon=True).start()
    speak(seat)
    torch.set_num_threads(order.stage.cfg.threads)
    code, said = _work(order, seat, meeting)
    _say(meeting, seat.rank, said)
    sys.exit(code)


def _work(order: Order, seat: Seat, meeting: Path) -> tuple[int, tuple[str, Any]]:
    """A rank's part; the code to exit with and its last words."""
    assert order.stage is not None
    try:
        heed_sigterm()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the server that this process was forked from blocks them
        with joined(seat, order.stage, init_method=f"file://{meeting / 'meet'}"):
            facts = _metered(order)
        return 0, ("facts", facts if seat.rank == 0 else None)
    except UserError as error:
        return 2, ("error", str(error))
    except Preempted:
        return RESUMABLE, ("", None)
    except Exception:  # noqa: BLE001 - it goes to the parent, which finds the rank that failed first
        return 1, ("crash", traceback.format_exc())
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # nothing is left to save


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(RESUMABLE)  # a rank without its parent must not go on writing checkpoints


def speak(seat: Seat) -> None:
    """Logging of a rank: the first speaks as the command does, the others only of errors."""
    level = logging.INFO if seat.rank == 0 else logging.ERROR
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger().setLevel(level)
    quiet()
    if seat.rank:
        warnings.simplefilter("ignore")


# ---- the group -------------------------------------------------------------------------------------------------


def _metered(order: Order) -> dict[str, Any]:
    """This rank's part of the work; the facts, and under `COST` what all ranks spent, summed, and the highest peak."""
    assert order.stage is not None
    meter = Meter()
    facts = order.stage.make(order.inputs, order.work, order.out)
    spent: list[dict[str, float]] = [{}] * dist.get_world_size()
    dist.all_gather_object(spent, meter.read())
    cpu, peak = ([each[name] for each in spent] for name in ("cpu_seconds", "peak_memory_mb"))
    return {**facts, COST: {"ranks": len(spent), "cpu_seconds": round(sum(cpu), 2), "peak_memory_mb": max(peak)}}


@contextmanager
def joined(seat: Seat, stage: Work, **meeting: Any) -> Iterator[None]:
    """Within, this process is one of a process group: gloo, and NCCL beside it where the trainer takes GPUs."""
    gpu = stage.cfg.trainer.accelerator in ("gpu", "cuda")
    if gpu:
        torch.cuda.set_device(seat.local_rank)
    os.environ.update(
        RANK=str(seat.rank),
        WORLD_SIZE=str(seat.world),
        LOCAL_RANK=str(seat.local_rank),
        LOCAL_WORLD_SIZE=str(seat.local_world),
        GROUP_RANK=str(seat.rank // seat.local_world),
    )
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    dist.init_process_group(backend, rank=seat.rank, world_size=seat.world, timeout=PATIENCE, **meeting)
    try:
        yield
    finally:
        dist.destroy_process_group()


# ---- ranks that torchrun or SLURM started ----------------------------------------------------------------------


class Conversation:
    """Orders from rank 0 to the others, over the store that torchrun or SLURM's first task offers.

    Args:
        seat: of this process.
        store: shared by all.
    """

    def __init__(self, *, seat: Seat, store: dist.Store) -> None:
        self.seat, self.store = seat, store
        self.number = 0

    def make(self, order: Order) -> dict[str, Any]:
        """Rank 0: tells the others and does its own part."""
        self._tell(order)
        return self._do(order)

    def end(self, code: int, objective: float | None) -> None:
        """Rank 0: the command is over, with this exit code and objective."""
        nowhere = Path()
        self._tell(Order(stage=None, inputs={}, work=nowhere, out=nowhere, code=code, objective=objective))
        # The store lives in this process: stay until all have heard. After a failure some may hear no more.
        deadline = time.monotonic() + (2 * MOMENT if code else GRACE)
        while self.store.add(f"heard/{self.number}", 0) < self.seat.world - 1 and time.monotonic() < deadline:
            time.sleep(0.05)

    def follow(self) -> Order:
        """The other ranks: does what rank 0 says until the command is over, and returns that last order."""
        try:
            while (order := self._hear(FOREVER)).stage is not None:
                self._do(order)
        except (Exception, Preempted):
            with suppress(RuntimeError):  # rank 0 failed or was stopped as well, and speaks for all
                return self._last()
            raise
        return self._heard(order)

    def _last(self) -> Order:
        """The last order, which rank 0 gives in a moment or not at all."""
        while (order := self._hear(timedelta(seconds=MOMENT))).stage is not None:
            continue
        return self._heard(order)

    def _heard(self, order: Order) -> Order:
        self.store.add(f"heard/{self.number}", 1)
        return order

    def _tell(self, order: Order) -> None:
        self.number += 1
        self.store.set(f"order/{self.number}", pickle.dumps(order))  # type: ignore[arg-type]

    def _hear(self, patience: timedelta) -> Order:
        self.store.wait([f"order/{self.number + 1}"], patience)
        self.number += 1
        order: Order = pickle.loads(self.store.get(f"order/{self.number}"))  # noqa: S301 - of our own rank 0
        return order

    def _do(self, order: Order) -> dict[str, Any]:
        assert order.stage is not None
        meeting = dist.PrefixStore(f"group/{self.number}", self.store)
        try:
            with joined(self.seat, order.stage, store=meeting):
                return _metered(order)
        except RuntimeError as error:
            if not any(mark in str(error) for mark in LOST):
                raise
            raise UserError(
                f"rank {self.seat.rank} of {self.seat.world} lost the others while making {order.stage.title}; "
                "the same command goes on from the last checkpoint"
            ) from error


@cache
def conversation() -> Conversation | None:
    """With the other ranks of torchrun or SLURM; None if this process was started alone.

    Raises:
        UserError: SLURM has several tasks for this job and did not start them, or they do not meet.
    """
    seat = external_seat()
    if seat is None:
        _want_srun()
        return None
    os.environ.update(RANK=str(seat.rank), WORLD_SIZE=str(seat.world))
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
    except RuntimeError as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise UserError(
            f"rank {seat.rank} of {seat.world} did not meet the others at {place} ({str(error).splitlines()[0]}); "
            "MASTER_ADDR and MASTER_PORT name another place"
        ) from error
    return Conversation(seat=seat, store=store)


def _want_srun() -> None:
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    if tasks > 1:
        raise UserError(
            f"SLURM has {tasks} tasks for this job, and this command runs in none of them; put srun in front of it, "
            "or ask for one task: then trainer.devices ranks start on this machine"
        )
