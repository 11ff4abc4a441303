"""What one pass costs at a size, in a process of its own: ``python tests/bench/scale.py assign|scan|numba ITEMS``.

Prints JSON: items, CPU seconds, and the peak of anonymous memory above what the process held before it began (memory
maps are the page cache's and do not count). docs/scale.md carries these figures to the design size.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.functional import scoring, scoring_numba
from adasid_exp.stages.assign import code_table, item_columns, quality_of, save_sids
from adasid_exp.stages.encoding import encode_catalogue

SLOTS, CODES, DIM, USERS, K = 8, 300, 32, 32, 100
SHARD_ROWS = 2**18


class PeakMemory:
    """Anonymous bytes of this process at their highest while the block runs, less those at its start."""

    def __enter__(self) -> PeakMemory:
        self.before, self.peak, self.over = anonymous(), 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.over.wait(0.01):
            self.peak = max(self.peak, anonymous() - self.before)

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def anonymous() -> int:
    """Bytes of anonymous memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def measured(items: int, work: Callable[[], object]) -> dict[str, float]:
    """CPU seconds and peak memory of one call."""
    with PeakMemory() as memory:
        start = time.process_time()
        work()
        seconds = time.process_time() - start
    return {"items": items, "seconds": seconds, "bytes": memory.peak}


def assign(items: int) -> dict[str, float]:
    """The pass of stage assign: encode, shards, inverse map, columns, figures; 32 dimensions, 8 slots of 300 codes."""
    from shipped import config, histories  # here: hydra takes a second that a scan need not wait for

    from adasid_exp.stages.tokenize import tokenizer_model

    torch.manual_seed(0)
    node = config("+tokenizer=rq_vae", f"tokenizer.length={SLOTS}", f"tokenizer.size={CODES}").tokenizer
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "text.npy", random.standard_normal((items, DIM), np.float32))
        text = np.load(folder / "text.npy", mmap_mode="r")
        table = ItemEmbeddings(features={"text": text}, count=random.integers(0, 99, items))
        start = ItemEmbeddings(features={"text": text[:4096]}, count=table.count[:4096]).batch()
        model = tokenizer_model(node, table, histories)
        model.fit_statistics(start)
        model.start(start)
        model.eval()
        (folder / "out").mkdir()
        encode_catalogue(model, ItemEmbeddings(features={"text": text[:64]}, count=table.count[:64]), folder / "w", 64)

        def work() -> None:
            encoding = encode_catalogue(model, table, folder / "shards", SHARD_ROWS)
            codes = code_table(encoding, model.layout)
            ids = pl.int_range(items, eager=True).cast(pl.String)
            save_sids(folder / "out", ids, codes, encoding, model.layout.modalities)
            item_columns(encoding, table.count, codes)
            quality_of(codes)

        return measured(items, work)


def scan(items: int, top_k: Callable = scoring.exact_top_k) -> dict[str, float]:
    """The best 100 items of 32 users."""
    torch.manual_seed(0)
    rows = torch.cat([scoring.flat_rows(torch.randint(0, CODES, (part, SLOTS)), CODES) for part in parts(items)])
    log_probs = torch.randn(USERS, SLOTS, CODES).mul(2).log_softmax(-1)
    top_k(log_probs, rows[:70_000], K)
    return measured(items, lambda: top_k(log_probs, rows, K))


def parts(items: int, most: int = 2**20) -> list[int]:
    """Sizes that add up."""
    return [most] * (items // most) + ([items % most] if items % most else [])


def main() -> None:
    torch.set_num_threads(1)
    job, items = sys.argv[1], int(sys.argv[2])
    jobs = {"assign": assign, "scan": scan, "numba": lambda size: scan(size, scoring_numba.exact_top_k)}
    sys.stdout.write(json.dumps(jobs[job](items)) + "\n")


if __name__ == "__main__":
    main()
