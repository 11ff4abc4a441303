"""Two ranks on two cores against one process, a thread each: the same steps, the same rows in each."""

from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pytest
from lightning import Callback

from adasid_exp.artifacts.store import Store
from adasid_exp.functional.ranks import own_rank
from adasid_exp.stages.schedule import stage_of
from conftest import AtLeast

SHAPE = (
    "data=toy", "data.users=3000", "data.items=4000", "progress=false", "scale.codebook_size=256", "scale.length=4",
    "scale.width={hidden:512,latent:256,code:64}",
    "scale.batch_size={behavior:512,tokenizer:1024,retriever:512,ranker:512}",
)  # fmt: skip
CASES = {
    "RQ-VAE": ("stage=tokenize", "tokenizer=rq_vae", "tokenizer.fit.epochs=12"),
    "SASRec": ("stage=behave", "behavior.fit.epochs=6", "behavior.fit.check_every=100", "behavior.fit.monitor=null"),
}


class Clock(Callback):
    """Keeps the CPU and wall seconds of every epoch, a file a rank."""

    def __init__(self, folder: str) -> None:
        self.folder, self.epochs = Path(folder), []

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.epochs.append((process_time(), perf_counter()))

    def on_train_end(self, trainer, pl_module) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        np.save(self.folder / f"{own_rank()}.npy", np.diff(np.array(self.epochs), axis=0))


def seconds_of_an_epoch(folder: Path, trainer: str, *overrides: str) -> tuple[float, float]:
    """CPU seconds of the busiest rank and wall seconds, medians over epochs but the first."""
    clock = f"+callbacks.clock={{_target_:bench_ddp.Clock,folder:{folder / trainer}}}"
    stage = stage_of((*SHAPE, *overrides, clock, f"trainer={trainer}", f"runs={folder}", "seed=0"))
    store = Store(folder)
    inputs = {role: upstream.ensure(store) for role, upstream in stage.upstream.items()}
    work, out = folder / f"{trainer}-work", folder / f"{trainer}-out"
    out.mkdir(parents=True)
    stage._made(inputs, work, out)
    ranks = np.stack([np.median(np.load(path), axis=0) for path in sorted((folder / trainer).glob("*.npy"))])
    cpu, wall = ranks.max(axis=0)
    return float(cpu), float(wall)


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_against_one(name, compare, tmp_path):
    rounds = [
        [seconds_of_an_epoch(tmp_path / str(number), trainer, *CASES[name]) for trainer in ("cpu", "ddp")]
        for number in range(2)
    ]
    (cpu, wall), (cpu_of_two, wall_of_two) = np.median(np.array(rounds), axis=0)
    compare.benchmark.pedantic(lambda: None, rounds=1)
    compare.record(
        f"{name}: an epoch by two ranks",
        AtLeast(goal=1.5),
        ours=float(cpu_of_two),
        reference=float(cpu),
        against="one process (CPU seconds of the busiest rank)",
        note=f"wall clock {wall / wall_of_two:.2f}x, which needs two idle cores",
    )
