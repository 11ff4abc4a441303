"""Stage `calibrate`: how far a trained retriever's slots are trusted as independent evidence, chosen on validation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig
from safetensors.torch import load_file

from adasid_exp.stages.base import Stage, plain
from adasid_exp.stages.building import construct
from adasid_exp.stages.fitting import outcomes_of, run_of, trainer_of
from adasid_exp.stages.loading import load_task
from adasid_exp.stages.ranks import first_rank
from adasid_exp.stages.retrieve import TASK, WEIGHTS, Retrieve, retriever_model, save_results
from adasid_exp.stages.tracking import begin
from adasid_exp.types import UserError

log = logging.getLogger(__name__)

CHOSEN = "prior/temperature"
"""Where ``metrics.json`` keeps the temperature."""


class Calibrate(Stage):
    """A trained retriever -> the same, its evidence tempered, with Recall and NDCG.

    Slots are not independent: the more of them say the same, the more Bayes' rule for independent evidence overrates
    it. Temperature T ranks by ``p(i | u) ~ p(i) (prod_l p(c_l | u) / p(c_l)) ** (1 / T)``; of those that the
    configuration lists, that of the best `objective` is taken. The test split is looked at once, with that one.
    """

    name = "calibrate"
    version = 1
    learner: ClassVar[str | None] = "retriever"
    objective = Retrieve.objective

    @property
    def label(self) -> str:
        return self.upstream["run"].label

    def settings(self) -> dict[str, Any]:
        return {"temperatures": plain(self.cfg.temperatures), "objective": self.objective}

    def inputs(self) -> dict[str, Stage]:
        run = Retrieve(self.cfg)
        return {**run.upstream, "run": run}

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        task = load_task(self.cfg, TASK, inputs["dataset"])
        data = task.sequences(batch_size=self.cfg.retriever.fit.batch_size)
        begin(self)
        trainer = trainer_of(self.cfg, plain(self.cfg.retriever.fit), run_of(self, work))
        loggers, trainer.loggers = trainer.loggers, []  # they hear of the temperature that is taken, not of all
        weights = load_file(inputs["run"] / WEIGHTS)

        def module_at(temperature: float) -> Any:
            model = retriever_model(tempered(self.cfg.retriever, temperature), self.cfg, task, inputs)
            model.load_state_dict(weights)
            return construct(plain(self.cfg.retriever.fit.module), model=model, total_steps=1)

        tried = {
            temperature: trainer.validate(module_at(temperature), datamodule=data, verbose=False)[0]
            for temperature in self.cfg.temperatures
        }
        best = max(tried, key=lambda temperature: tried[temperature][self.objective])
        if len(tried) > 1 and best in (min(tried), max(tried)) and best != 1.0:  # 1 is Bayes' rule as it stands
            log.info("temperatures: the best, %g, is the last of the list: a wider one may have a better", best)
        module, trainer.loggers = module_at(best), loggers
        for logger in loggers:
            logger.log_metrics({**tried[best], CHOSEN: best})
        metrics = {**tried[best], **trainer.test(module, datamodule=data, verbose=False)[0], CHOSEN: best}
        rows = outcomes_of(module)
        if first_rank():
            save_results(out, metrics, rows)
        return {
            "temperature": best,
            "validation": {f"{temperature:g}": tried[temperature][self.objective] for temperature in tried},
            "users": len(rows["user"]),
        }


def tempered(retriever: DictConfig, temperature: float) -> DictConfig:
    """The retriever's node with its prior at a temperature: a rank does not feel that both terms are scaled by T.

    Raises:
        UserError: it has no prior in which items count.
    """
    prior = plain(retriever).get("prior")
    if not isinstance(prior, dict) or "items" not in prior:
        raise UserError(
            f"stage=calibrate needs prior@retriever.prior=bayes or popularity and a retriever that takes it; "
            f"retriever={retriever.name} has {'no prior' if prior is None else 'another prior'}: use stage=retrieve"
        )
    node: DictConfig = retriever.copy()
    node.prior.items = float(temperature)
    if "codes" in prior:
        node.prior.codes = 1.0
    return node
