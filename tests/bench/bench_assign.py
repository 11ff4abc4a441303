"""SIDs of a catalogue against a library's residual quantizer, against the matrix products, and in how much memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from floors import flops_of, gemm, gemms
from references import LibraryRqVae
from shipped import config, histories

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.stages.encoding import CHUNK, chunks
from adasid_exp.stages.tokenize import tokenizer_model
from conftest import AtLeast, AtMost

ITEMS, DESIGN = 16_384, 48_000_000
GIB = 2**30


def made_up(items):
    random = np.random.default_rng(0)
    return ItemEmbeddings(
        features={"text": random.standard_normal((items, 384), np.float32)}, count=random.integers(0, 99, items)
    )


def started():
    """The shipped RQ-VAE (384-256-128-64, six levels of 100 codes) with codebooks from its items."""
    torch.manual_seed(0)
    items = made_up(ITEMS)
    model = tokenizer_model(config("+tokenizer=rq_vae").tokenizer, items, histories)
    batch = items.batch()
    model.fit_statistics(batch)
    model.start(batch)
    return model.eval(), items


def encoded(model, items):
    return torch.cat([model.encode(batch).codes for batch in chunks(items, slice(0, ITEMS))])


def test_assigning_sids_against_a_library(compare):
    model, items = started()
    library = LibraryRqVae(widths=(384, 256, 128, 64), levels=6, size=100).eval()
    text = torch.from_numpy(items.features["text"])
    std, mean = torch.std_mean(text, dim=0)

    @torch.no_grad()
    def by_library():
        for part in text.split(CHUNK):
            library.quantizer(library.encoder((part - mean) / std).unsqueeze(1))

    compare(
        "SIDs of a catalogue",
        AtLeast(goal=1.7),
        ours=lambda: encoded(model, items),
        ours_units=ITEMS,
        reference=by_library,
        reference_units=ITEMS,
        against="vector-quantize-pytorch's ResidualVQ behind the same encoder, an item",
        note="memory map to codes",
    )


def test_assigning_sids_against_its_matrix_products(compare):
    model, items = started()
    whole = encoded(model, items)
    alone = torch.cat([model.encode(items.batch(np.arange(row, row + 1))).codes for row in range(200)])
    assert torch.equal(alone, whole[:200])  # law: an item's codes do not depend on its batch
    flops = flops_of(lambda: encoded(model, items))
    compare(
        "SIDs of a catalogue",
        AtMost(goal=2.3),
        ours=lambda: encoded(model, items),
        ours_units=ITEMS,
        reference=gemm(),
        reference_units=ITEMS / gemms(flops),
        against="its matrix products at the machine's best rate, an item",
        note=f"{flops / ITEMS / 1e3:.0f} kFLOP an item; codes of 200 items alone are the same",
    )


def test_memory_of_the_pass_at_the_design_size(compare):
    """Peak memory beyond the mapped embeddings; what does not grow is taken to grow, on the safe side."""
    sizes = (1_000_000, 2_000_000, 4_000_000)
    script = Path(__file__).with_name("scale.py")
    said = [
        subprocess.run([sys.executable, script, "table", str(size)], capture_output=True, text=True, check=True).stdout
        for size in sizes
    ]
    bytes_of = [json.loads(line)["bytes"] for line in said]
    compare.benchmark.pedantic(lambda: None)
    each = [total / size for total, size in zip(bytes_of, sizes, strict=True)]
    need = each[-1] * DESIGN / GIB
    compare.record(
        "memory of assigning 48 M items",
        AtMost(goal=8),
        ours=need / 1e3,
        reference=1e-3,
        against="1 GiB (the columns ours and reference are GiB)",
        note=", ".join(f"{part:.0f} B an item at {size / 1e6:g} M" for part, size in zip(each, sizes, strict=True)),
    )
