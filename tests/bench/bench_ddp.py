"""Two ranks on two cores against one process, a thread each: the same steps, the same rows in each.

And what the machine gives: two processes side by side that know nothing of each other, each with half the rows.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pytest
import torch
from lightning import Callback

from adasid_exp.artifacts.store import Store
from adasid_exp.functional.ranks import own_rank
from adasid_exp.stages.schedule import stage_of
from conftest import AtLeast

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:Experiment logs directory"),  # every round logs to the same place
]

SHAPE = (
    "data=toy", "data.users=3000", "data.items=8192", "progress=false", "scale.codebook_size=256", "scale.length=4",
    "scale.width={hidden:512,latent:256,code:64}", "scale.epochs.behavior=1",
)  # fmt: skip
TOKENIZER = ("stage=tokenize", "tokenizer.fit.epochs=6")
CASES = {
    "RQ-VAE, 512 rows a rank": ("tokenizer.fit.batch_size={}", 1024, (*TOKENIZER, "tokenizer=rq_vae")),
    "RQ-VAE, 1,024 rows a rank": ("tokenizer.fit.batch_size={}", 2048, (*TOKENIZER, "tokenizer=rq_vae")),
    "RQ-VAE, 2,048 rows a rank": ("tokenizer.fit.batch_size={}", 4096, (*TOKENIZER, "tokenizer=rq_vae")),
    "ADA-SID, 1,024 rows a rank": ("tokenizer.fit.batch_size={}", 2048, (*TOKENIZER, "tokenizer=ada_sid")),
    "SASRec, 256 rows a rank": ("behavior.fit.batch_size={}", 512, (
        "stage=behave", "behavior.fit.epochs=6", "behavior.fit.check_every=100", "behavior.fit.monitor=null",
    )),
}  # fmt: skip
"""Where the rows of a step stand, how many they are, and the rest."""


class Clock(Callback):
    """Keeps the CPU and wall seconds from each step's start to the next one's of the same epoch, a file a rank."""

    def __init__(self, folder: str) -> None:
        self.folder, self.starts, self.steps = Path(folder), [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.starts.append((process_time(), perf_counter()))

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.steps += np.diff(np.array(self.starts), axis=0).tolist() if trainer.current_epoch else []
        self.starts = []

    def on_train_end(self, trainer, pl_module) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        np.save(self.folder / f"{own_rank()}.npy", np.array(self.steps))


def seconds_of_a_step(store: Path, folder: Path, trainer: str, *overrides: str) -> np.ndarray:
    """CPU seconds of the busiest rank and wall seconds, medians over the steps of all epochs but the first."""
    torch.set_num_threads(1)
    clock = f"+callbacks.clock={{_target_:bench_ddp.Clock,folder:{folder}}}"
    stage = stage_of((*SHAPE, *overrides, clock, f"trainer={trainer}", f"runs={store}", "seed=0"))
    inputs = {role: upstream.ensure(Store(store)) for role, upstream in stage.upstream.items()}
    work, out = folder / "work", folder / "out"
    out.mkdir(parents=True)
    stage._made(inputs, work, out)
    return np.stack([np.median(np.load(path), axis=0) for path in sorted(folder.glob("*.npy"))]).max(axis=0)


def side_by_side(pool: ProcessPoolExecutor, store: Path, folder: Path, *overrides: str) -> np.ndarray:
    """The same of two processes that train at once, each for itself."""
    both = [pool.submit(seconds_of_a_step, store, folder / each, "cpu", *overrides) for each in "ab"]
    return np.stack([one.result() for one in both]).max(axis=0)


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_against_one(name, compare, tmp_path, tmp_path_factory, pool):
    key, rows, overrides = CASES[name]
    store = tmp_path_factory.getbasetemp() / "store"
    whole, half = ((*overrides, key.format(size)) for size in (rows, rows // 2))
    rounds = [
        (
            seconds_of_a_step(store, tmp_path / f"one-{number}", "cpu", *whole),
            seconds_of_a_step(store, tmp_path / f"two-{number}", "ddp", *whole),
            side_by_side(pool, store, tmp_path / f"apart-{number}", *half),
        )
        for number in range(2)
    ]
    (cpu, wall), (cpu_of_two, wall_of_two), (cpu_apart, wall_apart) = np.array(rounds).min(axis=0)
    compare.benchmark.pedantic(lambda: None, rounds=1)
    compare.record(
        f"{name}: a step by two ranks",
        AtLeast(goal=1.5),
        ours=float(cpu_of_two),
        reference=float(cpu),
        against="one process (CPU seconds of the busiest rank)",
        note=f"wall clock {wall / wall_of_two:.2f}x, which needs two idle cores; two processes that exchange nothing: "
        f"{cpu / cpu_apart:.2f}x, wall clock {wall / wall_apart:.2f}x",
        held="512" not in name,  # so few rows are said, not promised: messages cost as much as they save
    )
