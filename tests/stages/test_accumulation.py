"""Gradients of several batches make one step."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from adasid_exp.artifacts.store import Manifest, Store
from adasid_exp.stages.quiet import quiet
from adasid_exp.stages.schedule import stage_of
from conftest import MICRO

ASKED = ("stage=tokenize", "tokenizer=rq_vae", "modalities=toy")


def test_two_half_batches_make_the_step_of_a_whole_one(micro_runs: Path) -> None:
    # Law: RQ-VAE's losses are means over items, so the mean over two halves is that of the whole (80 items, 1 step).
    # Which codes were used of late is counted batch by batch, so those counts may differ.
    quiet()
    found = {}
    for batch, accumulated in ((80, 1), (40, 2)):
        asked = (f"tokenizer.fit.batch_size={batch}", f"trainer.accumulate_grad_batches={accumulated}")
        folder = stage_of((*MICRO, *ASKED, *asked, f"runs={micro_runs}")).ensure(Store(micro_runs))
        assert Manifest.load(folder).facts["steps"] == 12
        found[batch] = load_file(folder / "model.safetensors")
    assert found[80].keys() == found[40].keys()
    learnt = {name: values for name, values in found[80].items() if not name.endswith("usage")}
    for name, values in learnt.items():
        torch.testing.assert_close(
            found[40][name], values, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
