"""A made-up shop in the open schema (docs/data.md), so that the examples run in an empty folder.

Everything in it is SIMULATED. What is planted: an item has a style, which its text tells, and a trend, which nobody can
read off the text but users follow. Whatever the examples find, they find about this shop.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import polars as pl

from adasid_exp.artifacts.store import Store
from adasid_exp.stages.quiet import quiet
from adasid_exp.stages.schedule import stage_of
from adasid_exp.types import UserError

STYLES = ["espresso", "green tea", "black tea", "mate", "cocoa", "herbal", "chai", "cold brew"]
TRENDS, USERS, ITEMS, EVENTS, DAY = 6, 600, 360, 24, 86_400
QUICK = ["scale=toy", "scale.epochs={behavior:10,tokenizer:60,retriever:1,slots:1,ranker:1}", "~modalities.attributes"]
"""The made-up shop is small: sizes and passes to match; and its only modality is the text's embedding."""


def arguments() -> tuple[Path | None, list[str]]:
    """``[FOLDER] [KEY=VALUE ...]`` of the command line; nothing in a notebook."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    overrides = [word for word in words if "=" in word or word.startswith("~")]
    folders = [Path(word) for word in words if word not in overrides]
    return (folders[0] if folders else None), overrides


def data_and_overrides() -> tuple[Path, list[str]]:
    """Your folder and overrides, or the made-up shop and what fits it."""
    folder, overrides = arguments()
    return (folder, overrides) if folder else (made_up_shop(Path("shop")), [*QUICK, *overrides])


def made_up_shop(folder: Path) -> Path:
    """Writes ``items.parquet``, ``interactions.parquet`` and ``text_simulated.npy``; the same every time."""
    random = np.random.default_rng(0)
    style, trend = random.integers(len(STYLES), size=ITEMS), random.integers(TRENDS, size=ITEMS)
    likes_style, likes_trend = random.integers(len(STYLES), size=(USERS, 2)), random.integers(TRENDS, size=USERS)
    taste = 1.5 * (likes_style[:, :1] == style) + 1.5 * (likes_style[:, 1:] == style)
    taste = taste + 2.0 * (likes_trend[:, None] == trend)
    popular = -1.1 * np.log1p(random.permutation(ITEMS))  # Zipf
    scores = taste + popular + random.gumbel(size=taste.shape)
    user = np.repeat(np.arange(USERS), EVENTS)
    item = np.argsort(-scores, axis=1)[:, :EVENTS].ravel()  # EVENTS draws without replacement
    liked = random.random(len(user)) < 1 / (1 + np.exp(4.0 - 2.0 * taste[user, item]))
    when = np.sort(random.integers(0, 400, size=(USERS, EVENTS)), axis=1).ravel()
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(
        {
            "item_id": [f"sku-{number:03d}" for number in range(ITEMS)],
            "title": [f"{STYLES[kind].title()} no. {number}" for number, kind in enumerate(style)],
            "categories": [["Drinks", STYLES[kind].title()] for kind in style],
        }
    ).write_parquet(folder / "items.parquet")
    pl.DataFrame(
        {
            "user_id": [f"user-{number}" for number in user],
            "item_id": [f"sku-{number:03d}" for number in item],
            "timestamp": 1_700_000_000 + DAY * when,
            "position": np.tile(np.arange(EVENTS), USERS),
            "liked": liked,
        }
    ).write_parquet(folder / "interactions.parquet")
    text = random.standard_normal((len(STYLES), 32))[style] + 0.7 * random.standard_normal((ITEMS, 32))
    np.save(folder / "text_simulated.npy", text.astype(np.float32))
    print(f"made up (simulated) in {folder}/: {ITEMS} items, {USERS} users, {len(user)} interactions")
    return folder


def run(*overrides: str) -> Path | None:
    """What `python -m adasid_exp OVERRIDES` does; the folder of the artifact, if the stage makes one."""
    logging.basicConfig(format="  %(message)s", level=logging.INFO)
    quiet()
    try:
        stage = stage_of(overrides)
        store = Store(Path(stage.cfg.runs))
        return stage.ensure(store) if hasattr(stage, "ensure") else stage.run(store)
    except UserError as error:
        sys.exit(f"error: {error}")
