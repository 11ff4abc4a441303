"""Trainings small enough to be made by one process, by two and by three, and the ranks that make them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch._inductor import config as inductor

from adasid_exp.functional.ranks import own_rank
from adasid_exp.stages.base import Stage
from adasid_exp.stages.quiet import quiet
from adasid_exp.stages.ranks import Seat, forking, joined
from adasid_exp.stages.schedule import stage_of

ODD = (
    "data=toy", "data.users=61", "data.items=41", "data.classes=5", "scale.codebook_size=4", "scale.length=3",
    "scale.width={hidden:16,latent:16,code:8}", "scale.retriever={dim:16,hidden:16}", "scale.pairs=17",
    "scale.epochs={behavior:3,tokenizer:8,retriever:3,slots:3,ranker:2}",
    "scale.batch_size={behavior:16,tokenizer:16,retriever:16,ranker:64}",
    "progress=false", "behavior.encoder.dim=16", "behavior.encoder.dropout=0",
)  # fmt: skip
"""41 items and 61 users: no batch is even. Without dropout, whose draws follow the rows and so the ranks."""
SPARSE = "scale.batch_size={behavior:2,tokenizer:2,retriever:2,ranker:2}"
"""Two rows a step: of three ranks one has none."""
RETRIEVER = "retriever.encoder.dropout=0"
SLOTS = "retriever=parallel"
NEGATIVES = "retriever.next_item.negatives=8"
RANKER = "ranker.tower.dropout=0"

CASES: dict[str, tuple[str, ...]] = {
    "rq_vae": ("stage=tokenize", "tokenizer=rq_vae"),
    "rq_vae, EMA": ("stage=tokenize", "tokenizer=rq_vae", "codebook@tokenizer.codebook=ema"),
    "ada_sid": ("stage=tokenize", "tokenizer=ada_sid"),
    "ada_sid, EMA": ("stage=tokenize", "tokenizer=ada_sid", "codebook@tokenizer.codebook=ema"),
    "ada_sid, an empty rank": ("stage=tokenize", "tokenizer=ada_sid", SPARSE, "tokenizer.fit.epochs=3"),
    "letter": ("stage=tokenize", "tokenizer=letter"),
    "das": ("stage=tokenize", "tokenizer=das", "tokenizer.fit.epochs=4"),
    "mm_rq_vae": ("stage=tokenize", "tokenizer=mm_rq_vae", "matching@tokenizer.alignment=mmd"),
    "rq_kmeans": ("stage=tokenize", "tokenizer=rq_kmeans", "tokenizer.fit.epochs=4"),
    "behave": ("stage=behave",),
    "behave, in batch": ("stage=behave", "behavior=sasrec_in_batch"),
    "behave, drawn negatives": ("stage=behave", "behavior=sasrec_pop75"),
    "behave, an empty rank": ("stage=behave", SPARSE, "scale.epochs.behavior=1", "behavior.fit.check_every=1"),
    "retrieve": ("stage=retrieve", "tokenizer=rq_vae", SLOTS, RETRIEVER),
    "retrieve, an empty rank": ("stage=retrieve", "tokenizer=rq_vae", SLOTS, SPARSE, RETRIEVER,
                                "retriever.fit.epochs=1", "retriever.fit.check_every=1"),
    "retrieve, items": ("stage=retrieve", "tokenizer=rq_vae", RETRIEVER, NEGATIVES),
    "retrieve, items, an empty rank": ("stage=retrieve", "tokenizer=rq_vae", SPARSE,
                                       RETRIEVER, NEGATIVES, "retriever.fit.epochs=1", "retriever.fit.check_every=1"),
    "retrieve, any order": ("stage=retrieve", "tokenizer=rq_vae", "retriever=any_order", RETRIEVER),
    "rank": ("stage=rank", "tokenizer=rq_vae", RANKER),
    "rank, an empty rank": ("stage=rank", "tokenizer=rq_vae", SPARSE, RANKER, "ranker.fit.epochs=1"),
}  # fmt: skip


STEP = 8
"""The step whose exchanges are counted, from 1: the warm-up is over, and DDP knows its buckets."""


class Exchanges(Callback):
    """Writes down which exchanges of the process group a training step and its optimizer step make, by kind."""

    def __init__(self, *, folder: str) -> None:
        self.folder, self.seen = Path(folder), 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seen += 1
        if self.seen == STEP:
            self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
            self.profiler.start()

    def on_train_batch_end(self, *_: Any) -> None:
        if self.seen == STEP:
            self.profiler.stop()
            names = [event.name for event in self.profiler.events() if event.name.startswith("gloo:")]
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"exchanges-{own_rank()}.json").write_text(json.dumps(Counter(names)))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A stage to be made, with its inputs; ``runs`` of its configuration says where its logs go."""

    name: str
    stage: Stage
    inputs: Mapping[str, Path]
    folder: Path

    def make(self) -> None:
        """Into ``folder/out``."""
        work, out = self.folder / "work", self.folder / "out"
        out.mkdir(parents=True, exist_ok=True)
        self.stage.make(self.inputs, work, out)


def case(name: str, trainer: str, inputs: Mapping[str, Path], root: Path, *more: str) -> Case:
    """The case ``name`` as ``trainer`` trains it, below ``root``; ``more`` overrides."""
    folder = root / name.replace(" ", "_").replace(",", "")
    count = f"+callbacks.exchanges={{_target_:cases.Exchanges,folder:{folder}}}"
    stage = stage_of((*ODD, *CASES[name], count, f"trainer={trainer}", f"runs={folder}", "seed=0", *more))
    return Case(name=name, stage=stage, inputs=inputs, folder=folder)


def make_all(worlds: Mapping[int, Sequence[Case]]) -> None:
    """Makes the cases of every world size, in one set of processes as large as the largest world."""
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
    folder = Path(tempfile.mkdtemp())
    processes = [
        forking().Process(target=_rank, args=(rank, pickle.dumps(worlds), folder)) for rank in range(max(worlds))
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    shutil.rmtree(folder)
    assert not any(process.exitcode for process in processes), [process.exitcode for process in processes]


def _rank(rank: int, worlds: bytes, folder: Path) -> None:
    torch.set_num_threads(1)
    inductor.fallback_random = True  # what is compiled draws what is drawn otherwise
    quiet()
    for world, cases in pickle.loads(worlds).items():
        if rank >= world:
            continue
        seat = Seat(rank=rank, world=world, local_rank=rank, local_world=world)
        for number, one in enumerate(cases):
            with joined(seat, one.stage, init_method=f"file://{folder}/{world}-{number}"):
                try:
                    one.make()
                except Exception as error:
                    raise RuntimeError(f"case {one.name!r}, rank {rank} of {world}") from error
