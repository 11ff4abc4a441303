"""Stage `embed`: one content modality of the catalogue as vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from adasid_exp.artifacts.dataset import Dataset
from adasid_exp.artifacts.item_vectors import VECTORS, link_shards
from adasid_exp.artifacts.prepared_logs import PreparedLogs
from adasid_exp.artifacts.store import Manifest
from adasid_exp.data.pieces import wants_bar
from adasid_exp.stages.base import Stage, plain
from adasid_exp.stages.loading import holds_logs
from adasid_exp.stages.prepare import Prepare
from adasid_exp.stages.progress import rows_bar
from adasid_exp.types import UserError


class Embed(Stage):
    """Items of a dataset -> float32 ``[items, dim]`` of one modality.

    Where the modality's node says ``use_array: true`` and the dataset brings an array of that name, the
    array is taken; otherwise the node's encoder runs.
    """

    name = "embed"
    version = 1

    def __init__(self, cfg: DictConfig, modality: str) -> None:
        super().__init__(cfg)
        self.modality = modality
        self.node = cfg.modalities[modality]

    @property
    def label(self) -> str:
        return f"{self.cfg.data.name}-{self.modality}"

    def settings(self) -> dict[str, Any]:
        # Where an array may stand in for it, the encoder's weights need not be there to name the artifact.
        described = plain(self.node.encoder) if self.node.use_array else self._encoder().fingerprint()
        return {"modality": self.modality, "use_array": self.node.use_array, "encoder": described}

    def _encoder(self) -> Any:
        if self.node.encoder is None:
            raise UserError(
                f"data {self.cfg.data.name} brings no array {self.modality!r} and no encoder is set; add "
                f"{self.modality}.npy to the data or +encoder@modalities.{self.modality}.encoder=minilm"
            )
        return instantiate(self.node.encoder)

    def inputs(self) -> dict[str, Stage]:
        return {"dataset": Prepare(self.cfg)}

    def make(self, inputs: Mapping[str, Path], work: Path, out: Path) -> dict[str, Any]:
        if holds_logs(inputs["dataset"]):
            return self._shards(PreparedLogs.load(inputs["dataset"]), out)
        dataset = Dataset.load(inputs["dataset"])
        if self.node.use_array and self.modality in dataset.arrays:
            vectors, source = (
                np.asarray(dataset.arrays[self.modality], dtype=np.float32),
                self._array_note(inputs),
            )
        else:
            vectors, source = self._encode(dataset)
        np.save(out / VECTORS, vectors)
        return {"dim": int(vectors.shape[1]), "source": source}

    def _shards(self, logs: PreparedLogs, out: Path) -> dict[str, Any]:
        """Logs are too large to be encoded here: they bring their embeddings, and those are linked."""
        if not self.node.use_array or self.node.encoder is not None:
            raise UserError(
                f"logs bring their embeddings: modalities.{self.modality} needs use_array=true encoder=null"
            )
        shards = logs.embeddings(self.modality)
        link_shards(shards, out)
        return {"dim": shards.dim, "source": "embeddings that came with the logs"}

    def _array_note(self, inputs: Mapping[str, Path]) -> str:
        notes = Manifest.load(inputs["dataset"]).facts["notes"]
        return next((note for note in notes if self.modality in note), "array shipped with the data")

    def _encode(self, dataset: Dataset) -> tuple[np.ndarray, str]:
        encoder = self._encoder()
        rows, wanted = dataset.items.to_dicts(), wants_bar(self.cfg.progress)
        with rows_bar(f"{self.name} {self.label}", len(rows), "items", wanted=wanted) as tell:
            encoded = encoder.encode(rows, lambda done, total: tell(done * len(rows) // max(1, total)))
        source = f"{encoder.fingerprint()}, {len(encoded.missing)} of {len(dataset.items)} items had nothing to encode"
        return np.asarray(encoded.vectors, dtype=np.float32), source
