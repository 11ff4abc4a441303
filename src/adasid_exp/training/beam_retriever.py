"""The training loop of retrievers that search with a beam: it also measures what the beam costs."""

from __future__ import annotations

from dataclasses import fields

from adasid_exp.functional.ranks import place_among
from adasid_exp.nn.metrics.beam_gap import BeamGap
from adasid_exp.retrievers.base import BeamRetriever
from adasid_exp.training.retriever import RetrieverModule
from adasid_exp.types import SequenceBatch, UserError


class BeamRetrieverModule(RetrieverModule):
    """A `RetrieverModule` that compares the beam with exact scores on the first users of a test.

    Logs ``test/beam_overlap@50``, ``test/beam_recall_gap@50``, ... (see `BeamGap`) beside the other figures.

    Args:
        model: what to train and measure.
        exact_users: test users, over all ranks, whose exact scores are computed; 0 for none.

    The others are those of `RetrieverModule`.

    Raises:
        UserError: a list is longer than the beam.
    """

    model: BeamRetriever

    def __init__(
        self,
        *,
        model: BeamRetriever,
        total_steps: int,
        learning_rate: float,
        weight_decay: float,
        warmup_steps: int,
        floor: float,
        cutoffs: list[int],
        exact_users: int,
    ) -> None:
        if model.beam < max(cutoffs):
            raise UserError(
                f"retriever.beam is {model.beam}, the longest of retriever.fit.module.cutoffs {max(cutoffs)}: "
                f"a list longer than the beam cannot be measured, widen the beam"
            )
        super().__init__(
            model=model,
            total_steps=total_steps,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            warmup_steps=warmup_steps,
            floor=floor,
            cutoffs=cutoffs,
        )
        self.exact_users = exact_users
        self.gap = BeamGap(cutoffs=tuple(cutoffs))
        self.measured = 0

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        before, users = place_among(len(batch.user)) if self.measured < self.exact_users else (0, 0)
        left = min(self.exact_users - self.measured - before, len(batch.user))
        self.measured += users
        if left > 0:
            part = first_users(batch, left)
            beam = self.model.search(part, self.model.beam)
            exact = self.model.search(part, len(self.model.catalogue.sharers))
            self.gap.update(beam, exact, self.model.catalogue.distinct, part.target)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        if self.exact_users:
            self.log_dict({f"test/{name}": value.float() for name, value in self.gap.compute().items()})
            self.gap.reset()
            self.measured = 0


def first_users(batch: SequenceBatch, count: int) -> SequenceBatch:
    """The first ``count`` users of a batch, or all of them."""
    return SequenceBatch(**{field.name: getattr(batch, field.name)[:count] for field in fields(batch)})
