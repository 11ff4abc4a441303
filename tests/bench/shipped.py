"""Objects as the shipped configuration builds them, at Beauty's size, on made-up items."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings

ITEMS, USERS = 12_101, 22_363
CONF = Path(__file__).parents[2] / "conf"


def config(*overrides: str) -> DictConfig:
    """Nodes of the configuration tree at Beauty's scale."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=["+scale=beauty", "+seed=0", *overrides])


@cache
def items() -> ItemEmbeddings:
    """Clustered text (384), attributes (384) and behavior (64) embeddings with Zipf counts."""
    random = np.random.default_rng(0)

    def clustered(dim: int) -> np.ndarray:
        centres = random.standard_normal((200, dim))
        near = centres[random.integers(0, 200, ITEMS)]
        return (near + 0.5 * random.standard_normal((ITEMS, dim))).astype(np.float32)

    count = np.minimum(5 + 400 / (1 + random.permutation(ITEMS)), 400).astype(np.int64)
    return ItemEmbeddings(
        features={"text": clustered(384), "attributes": clustered(384), "behavior": clustered(64)},
        count=count,
    )


def histories():
    """What no tokenizer measured here asks for."""
    raise AssertionError("a tokenizer asked for histories")
