"""Running a composed configuration: the stage is picked and made, and what stops it is said in one line."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_class
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from adasid_exp.artifacts.store import Store, disk_trouble
from adasid_exp.commands.hydra_line import JobFailed
from adasid_exp.stages.base import Stage
from adasid_exp.stages.limits import check_numbers
from adasid_exp.stages.preemption import RESUMABLE, Preempted, heed_sigterm
from adasid_exp.stages.progress import memory, spent
from adasid_exp.stages.quiet import quiet
from adasid_exp.stages.ranks import Conversation, conversation, several, speak
from adasid_exp.types import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a command ended: exit code, objective where it has one, what stopped it."""

    code: int = 0
    objective: float | None = None
    words: str = ""


PLACES = ("results", "out", "folder")
"""Keys of a command's node that name where it writes."""


def start(cfg: DictConfig) -> float | None:
    """Runs ``cfg.stage``; a person's mistake ends in one line and exit code 2, SIGTERM in one line and 75."""
    quiet()
    heed_sigterm()
    return settled(in_words(cfg, lambda: run(cfg)))


def run(cfg: DictConfig) -> float | None:
    """Runs the stage, or, as one of torchrun's or SLURM's other ranks, does what rank 0 says until it is over."""
    check_numbers(cfg)
    torch.set_num_threads(cfg.threads)
    talk = conversation() if several(cfg.trainer) else None
    if talk is None:
        return made(cfg)
    if talk.seat.rank:
        speak(talk.seat)
        last = talk.follow()
        return settled(Ending(code=last.code, objective=last.objective, words="rank 0 says why"))
    return lead(cfg, talk)


def made(cfg: DictConfig) -> float | None:
    """The stage's artifact is there; its objective. The last line says where the results are and what they took."""
    started = time.perf_counter()
    stage = get_class(cfg.stage._target_)(cfg)
    value: float | None = stage.run(Store(Path(cfg.runs)))
    if not isinstance(stage, Stage):  # those that make an artifact have said so
        name = HydraConfig.get().runtime.choices["stage"]
        place = next((f"results in {cfg.stage[key]}, " for key in PLACES if cfg.stage.get(key)), "")
        log.info("%s: %stook %s, %s", name, place, spent(time.perf_counter() - started), memory())
    return value


def lead(cfg: DictConfig, talk: Conversation) -> float | None:
    """`made`, and whatever comes of it the other ranks learn."""
    ending = Ending(code=1)
    try:
        ending = in_words(cfg, lambda: made(cfg))
    finally:
        talk.end(ending.code, ending.objective)
    return settled(ending)


def settled(ending: Ending) -> float | None:
    """The objective of what ended well; all else ends the process with its exit code.

    Raises:
        JobFailed: a job of submitit failed, whose launcher waits for a result or an exception. One that was stopped
            (75) leaves neither: it may be in the queue again.
    """
    if ending.code and ending.code != RESUMABLE and "SUBMITIT_EXECUTOR" in os.environ:
        raise JobFailed(ending.words)
    if ending.code:
        sys.exit(ending.code)
    return ending.objective


def in_words(cfg: DictConfig, task: Callable[[], float | None]) -> Ending:
    """How a task ended; what stopped it is said in one line."""
    try:
        return Ending(objective=task())
    except UserError as error:
        return mistake(str(error))
    except (InstantiationException, OmegaConfBaseException) as error:
        return mistake(refusal(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("adasid_exp"):
            raise
        return mistake(f"{error.name} is not installed; `adasid doctor` says how to get it")
    except OSError as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        return mistake(f"the disk refused: {trouble}; free or name another place (runs=FOLDER, stage.results=FOLDER)")
    except KeyboardInterrupt as stop:
        saved = f"; {stop}" if str(stop) else ""
        log.error("stopped; what was finished is kept in %s%s; to go on: %s", cfg.runs, saved, same_command())
        return Ending(code=130)
    except Preempted as stop:
        log.error("stopped by %s; what was finished is kept in %s, the same command goes on from there", stop, cfg.runs)
        return Ending(code=RESUMABLE)


def mistake(words: str) -> Ending:
    """The one line is said; exit code 2."""
    log.error("error: %s", words)
    return Ending(code=2, words=words)


def refusal(error: Exception) -> str:
    """What a constructor or a key of the configuration complains of, in one line."""
    text = " ".join(str(error).split())
    key = getattr(error, "full_key", None)
    place = f"{key}: " if key and not text.startswith(str(key)) else ""
    return f"{place}{text}; `adasid run --cfg job` shows the whole configuration"


def same_command() -> str:
    """The command that is running, as it can be typed again."""
    program = "adasid run" if Path(sys.argv[0]).name == "adasid" else "python -m adasid_exp"
    return f"{program} {shlex.join(sys.argv[1:])}"
