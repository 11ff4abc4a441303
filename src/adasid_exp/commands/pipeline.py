"""Running a composed configuration: the stage is picked and made, and what stops it is said in one line."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_class
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from adasid_exp.artifacts.store import Store, disk_trouble
from adasid_exp.stages.base import Stage
from adasid_exp.stages.limits import check_numbers
from adasid_exp.stages.preemption import RESUMABLE, Preempted, heed_sigterm
from adasid_exp.stages.progress import memory, spent
from adasid_exp.stages.quiet import quiet
from adasid_exp.stages.ranks import Conversation, conversation, several, speak
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

PLACES = ("results", "out", "folder")
"""Keys of a command's node that name where it writes."""


def start(cfg: DictConfig) -> float | None:
    """Runs ``cfg.stage``; a person's mistake ends in one line and exit code 2, SIGTERM in one line and 75."""
    quiet()
    heed_sigterm()
    code, objective = in_words(cfg, lambda: run(cfg))
    if code:
        sys.exit(code)
    return objective


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
        if last.code:
            sys.exit(last.code)
        return last.objective
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
    code, objective = 1, None
    try:
        code, objective = in_words(cfg, lambda: made(cfg))
    finally:
        talk.end(code, objective)
    if code:
        sys.exit(code)
    return objective


def in_words(cfg: DictConfig, task: Callable[[], float | None]) -> tuple[int, float | None]:
    """Exit code and result of a task; what stopped it is said in one line."""
    try:
        return 0, task()
    except UserError as error:
        log.error("error: %s", error)
        return 2, None
    except (InstantiationException, OmegaConfBaseException) as error:
        log.error("error: %s", refusal(error))
        return 2, None
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("adasid_exp"):
            raise
        log.error("error: %s is not installed; `adasid doctor` says how to get it", error.name)
        return 2, None
    except OSError as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        log.error(
            "error: the disk refused: %s; free or name another place (runs=FOLDER, stage.results=FOLDER)", trouble
        )
        return 2, None
    except KeyboardInterrupt as stop:
        saved = f"; {stop}" if str(stop) else ""
        log.error("stopped; what was finished is kept in %s%s; to go on: %s", cfg.runs, saved, same_command())
        return 130, None
    except Preempted as stop:
        log.error("stopped by %s; what was finished is kept in %s, the same command goes on from there", stop, cfg.runs)
        return RESUMABLE, None


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
