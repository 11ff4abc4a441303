"""What a pass costs at a size, in its own process: ``python tests/bench/scale.py encode|table|scan|numba ITEMS``.

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
from types import SimpleNamespace

import numpy as np
import polars as pl
import torch

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.functional import scoring, scoring_numba
from adasid_exp.stages.assign import code_table, item_columns, quality_of, save_sids
from adasid_exp.stages.encoding import CHUNK, Encoding, encode_catalogue, save_shard

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


def encode(items: int) -> dict[str, float]:
    """The network's part of stage assign: 32 dimensions to shards of 8 slots of 300 codes, columns beside them."""
    from shipped import config, histories  # here: hydra takes a second that other jobs need not wait for

    from adasid_exp.stages.tokenize import tokenizer_model

    torch.manual_seed(0)
    node = config("+tokenizer=rq_vae", f"tokenizer.length={SLOTS}", f"tokenizer.size={CODES}").tokenizer
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "text.npy", np.random.default_rng(0).standard_normal((items, DIM), np.float32))
        text, count = np.load(Path(folder) / "text.npy", mmap_mode="r"), np.ones(items, np.int64)
        few = ItemEmbeddings(features={"text": text[:CHUNK]}, count=count[:CHUNK])
        model = tokenizer_model(node, few, histories)
        model.fit_statistics(few.batch())
        model.start(few.batch())
        encode_catalogue(model.eval(), few, Path(folder) / "warm", CHUNK)
        table = ItemEmbeddings(features={"text": text}, count=count)
        return measured(items, lambda: encode_catalogue(model, table, Path(folder) / "shards", SHARD_ROWS))


def table(items: int) -> dict[str, float]:
    """What stage assign does with the codes of the whole catalogue: shards, inverse map, columns, figures."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        encoding, out = random_shards(items, Path(folder)), Path(folder) / "out"
        out.mkdir()
        layout = SimpleNamespace(sizes=(CODES,) * SLOTS, modalities=("text",) * SLOTS, ordered=True)

        def work() -> None:
            ids = pl.int_range(items, eager=True).cast(pl.String)
            codes = code_table(encoding, layout)
            save_sids(out, ids, codes, encoding, layout.modalities)
            item_columns(encoding, np.zeros(items, np.int64), codes)
            quality_of(codes)

        return measured(items, work)


def random_shards(items: int, folder: Path) -> Encoding:
    """Shards of random codes."""
    starts = range(0, items, SHARD_ROWS)
    cuts = tuple(slice(start, min(start + SHARD_ROWS, items)) for start in starts)
    files = tuple(folder / f"{cut.start}.safetensors" for cut in cuts)
    for cut, file in zip(cuts, files, strict=True):
        rows = cut.stop - cut.start
        codes = torch.randint(0, CODES, (rows, SLOTS)).short()
        save_shard({"codes": codes, "weights": torch.ones(rows, SLOTS), "error/text": torch.rand(rows)}, file)
    return Encoding(files=files, parts=cuts)


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
    jobs = {"encode": encode, "table": table, "scan": scan, "numba": lambda size: scan(size, scoring_numba.exact_top_k)}
    sys.stdout.write(json.dumps(jobs[job](items)) + "\n")


if __name__ == "__main__":
    main()
