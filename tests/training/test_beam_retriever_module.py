"""The beam's distance from exact scores, as the test logs it."""

from functools import partial

import lightning as L
import pytest
import torch

from adasid_exp.nn.slot_decoder import SlotDecoder
from adasid_exp.nn.slot_weights import EqualWeights, PredictPad
from adasid_exp.nn.transformer import CausalTransformer
from adasid_exp.retrievers.fixed_order import FixedOrder
from adasid_exp.training.beam_retriever import BeamRetrieverModule
from adasid_exp.types import SequenceBatch, SidTable, UserError

ITEMS, USERS = 60, 20


def module_of(beam, exact_users, cutoffs=(1, 4)):
    torch.manual_seed(0)
    codes = torch.randint(0, 4, (ITEMS, 4))
    sids = SidTable(
        codes=codes, weights=torch.ones(codes.shape), sizes=(4,) * 4, modalities=("text",) * 4, ordered=True
    )
    model = FixedOrder(
        sids=sids,
        encoder=CausalTransformer(dim=16, blocks=1, heads=2, hidden=32, steps=6, dropout=0.0, init_std=0.3),
        decoder=partial(SlotDecoder, heads=2, hidden=16, temperature=0.5, init_std=0.5),
        init_std=0.5,
        sid_weights=EqualWeights(),
        pad=PredictPad(share=1.0),
        beam=beam,
    )
    settings = {"learning_rate": 1e-2, "weight_decay": 0.0, "warmup_steps": 0, "floor": 0.1}
    return BeamRetrieverModule(model=model, total_steps=1, cutoffs=list(cutoffs), exact_users=exact_users, **settings)


class Batches:
    def __iter__(self):
        return iter(batches())

    def __len__(self):
        return len(batches())


def batches():
    history = torch.randint(0, ITEMS, (USERS, 6), generator=torch.Generator().manual_seed(1))
    return [
        SequenceBatch(
            user=part, history=history[part], length=torch.full((len(part),), 6), target=(history[part, -1] + 1) % ITEMS
        )
        for part in torch.arange(USERS).split(7)
    ]


def measured(module):
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", enable_model_summary=False, **silent)
    return trainer.test(module, Batches(), verbose=False)[0]


def test_gap_by_sets_over_the_first_users():
    """Reference: both lists of the first ten users, compared as Python sets; Recall likewise from the places."""
    module = module_of(beam=4, exact_users=10)
    metrics = measured(module)
    model = module.model
    overlap, gap = [], []
    for batch in batches():
        beam, exact = model.search(batch, 4), model.search(batch, ITEMS)
        for row, user in enumerate(batch.user.tolist()):
            if user < 10:
                overlap.append(len(set(beam.sids[row].tolist()) & set(exact.sids[row, :4].tolist())) / 4)
                own = int(model.catalogue.of_item[batch.target[row]])
                gap.append([found(lst, own, model.catalogue.sharers) for lst in (exact.sids[row], beam.sids[row])])
    assert metrics["test/beam_overlap@4"] == pytest.approx(sum(overlap) / 10)
    assert metrics["test/beam_recall_gap@4"] == pytest.approx(sum(best - got for best, got in gap) / 10)
    assert sum(overlap) < 10  # the beam does lose something here


def found(sids, own, sharers):
    """Chance that an item of SID ``own`` is among the first four items of the list."""
    if own not in sids.tolist():
        return 0.0
    above = int(sharers[sids[: sids.tolist().index(own)]].sum())
    return min(max(4 - above, 0), int(sharers[own])) / int(sharers[own])


def test_a_beam_as_wide_as_the_catalogue_loses_nothing():
    metrics = measured(module_of(beam=ITEMS, exact_users=USERS))
    assert metrics["test/beam_overlap@4"] == 1
    assert metrics["test/beam_recall_gap@4"] == 0


def test_no_exact_users_no_figures():
    assert not [name for name in measured(module_of(beam=4, exact_users=0)) if "beam" in name]


def test_a_list_longer_than_the_beam_is_refused():
    with pytest.raises(UserError, match=r"retriever\.beam is 4.* 5"):
        module_of(beam=4, exact_users=0, cutoffs=(1, 5))
