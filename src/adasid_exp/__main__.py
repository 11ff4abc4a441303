"""The command: composes the configuration, picks the stage, runs it, returns its objective to a sweeper."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import hydra
import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from adasid_exp.artifacts.store import Store
from adasid_exp.stages.locations import CONF
from adasid_exp.stages.quiet import quiet
from adasid_exp.types import UserError

log = logging.getLogger(__name__)


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> float | None:
    """Runs ``cfg.stage``; a person's mistake ends in one line and exit code 2."""
    quiet()
    torch.set_num_threads(cfg.threads)
    try:
        return get_class(cfg.stage._target_)(cfg).run(Store(Path(cfg.runs)))
    except UserError as error:
        log.error("error: %s", error)
        sys.exit(2)
    except KeyboardInterrupt:
        log.error("stopped; what was finished is kept in %s, the same command goes on from there", cfg.runs)
        sys.exit(130)


if __name__ == "__main__":
    main()
