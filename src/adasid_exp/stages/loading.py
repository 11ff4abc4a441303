"""What several stages read: a task's data set and split, and the sequences made from them."""

from __future__ import annotations

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.data.sequences import SequenceDataModule
from adasid_exp.data.splits import Split


def load_split(cfg: DictConfig, task: str, folder: Path) -> tuple[Dataset, Split]:
    """The data set of a `prepare` artifact and a task's split of it."""
    dataset = Dataset.load(folder)
    return dataset, instantiate(cfg.splits[task])(dataset)


def sequences(cfg: DictConfig, node: DictConfig, dataset: Dataset, split: Split) -> SequenceDataModule:
    """Next-item batches, of the size that ``node.fit`` names."""
    return SequenceDataModule(
        dataset=dataset, split=split, batch_size=node.fit.batch_size, history=cfg.scale.history, seed=cfg.seed
    )
