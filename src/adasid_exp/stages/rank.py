"""Stage `rank`: discriminative ranking of labelled impressions, split once in time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adasid_exp.artifacts.results import Results
from adasid_exp.artifacts.semantic_ids import SemanticIds
from adasid_exp.stages.assign import Assign
from adasid_exp.stages.base import Stage, plain
from adasid_exp.stages.building import build, identity, names_of
from adasid_exp.stages.fitting import outcomes_of, save_weights, seed_everything, train, training_settings
from adasid_exp.stages.loading import load_task, streaming_settings
from adasid_exp.stages.prepare import Prepare
from adasid_exp.stages.ranks import first_rank

WEIGHTS = "model.safetensors"
TASK = "ranking"


class Rank(Stage):
    """Item representations (SIDs or ids) and impressions -> AUC and GAUC."""

    name = "rank"
    version = 1
    learner = "ranker"
    objective = "val/auc"

    @property
    def label(self) -> str:
        method = self.cfg.tokenizer.name + "-" if self._uses_sids else ""
        return f"{self.cfg.data.name}-{method}{self.cfg.ranker.name}-{self.cfg.representation.name}"

    @property
    def _uses_sids(self) -> bool:
        return "sids" in names_of(self.cfg.representation)

    def settings(self) -> dict[str, Any]:
        return {
            "ranker": identity(self.cfg.ranker),
            "representation": identity(self.cfg.representation),
            "split": plain(self.cfg.splits[TASK]),
            "history": self.cfg.scale.history,
            **streaming_settings(self.cfg),
            "seed": self.cfg.seed,
            **training_settings(self.cfg),
        }

    def inputs(self) -> dict[str, Stage]:
        inputs: dict[str, Stage] = {"dataset": Prepare(self.cfg)}
        if self._uses_sids:
            inputs["sids"] = Assign(self.cfg, TASK)
        return inputs

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        task = load_task(self.cfg, TASK, inputs["dataset"])
        data = task.impressions(batch_size=self.cfg.ranker.fit.batch_size)
        seed_everything(self.cfg.seed)
        representation = build(
            self.cfg.representation,
            items=lambda: task.items,
            sids=lambda: SemanticIds.load(inputs["sids"]).table(),
        )
        model = build(self.cfg.ranker, users=lambda: task.users, representation=lambda: representation)
        module, trainer = train(self, self.cfg.ranker, model, data, work)
        metrics = {
            **trainer.validate(module, datamodule=data, verbose=False)[0],
            **trainer.test(module, datamodule=data, verbose=False)[0],
        }
        rows = outcomes_of(module)
        rows["user"] = rows["user"] % task.users
        rows["item_count"] = task.popularity()[rows["item"]]
        if first_rank():
            Results(metrics={key: float(value) for key, value in metrics.items()}, rows=rows).save(out)
            save_weights(model, out / WEIGHTS)
        return {"rows": len(rows["label"]), **task.unused}
