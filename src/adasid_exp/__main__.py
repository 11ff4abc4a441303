"""The command: composes the configuration, picks the stage, runs it, returns its objective to a sweeper."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from adasid_exp.artifacts.store import Store
from adasid_exp.stages.locations import CONF
from adasid_exp.stages.preemption import RESUMABLE, Preempted, heed_sigterm
from adasid_exp.stages.quiet import quiet
from adasid_exp.stages.ranks import Conversation, conversation, several, speak
from adasid_exp.types import UserError

log = logging.getLogger(__name__)


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> float | None:
    """Runs ``cfg.stage``; a person's mistake ends in one line and exit code 2, SIGTERM in one line and 75."""
    quiet()
    heed_sigterm()
    torch.set_num_threads(cfg.threads)
    code, objective = in_words(cfg, lambda: run(cfg))
    if code:
        sys.exit(code)
    return objective


def run(cfg: DictConfig) -> float | None:
    """Runs the stage, or, as one of torchrun's or SLURM's other ranks, does what rank 0 says until it is over."""
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
    """The stage's artifact is there; its objective."""
    value: float | None = get_class(cfg.stage._target_)(cfg).run(Store(Path(cfg.runs)))
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
    except KeyboardInterrupt:
        log.error("stopped; what was finished is kept in %s, the same command goes on from there", cfg.runs)
        return 130, None
    except Preempted:
        log.error("stopped by SIGTERM; what was finished is kept in %s, the same command goes on from there", cfg.runs)
        return RESUMABLE, None


if __name__ == "__main__":
    main()
