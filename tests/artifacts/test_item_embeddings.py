"""The item embeddings artifact: a round trip, and what it refuses."""

import numpy as np
import pytest

from adasid_exp.artifacts.item_embeddings import ItemEmbeddings
from adasid_exp.types import UserError


def _embeddings(**features):
    tables = {name: np.asarray(table, dtype=np.float32) for name, table in features.items()}
    return ItemEmbeddings(features=tables, count=np.array([3, 0, 5]))


def test_round_trip_keeps_order_and_values(tmp_path):
    written = _embeddings(text=[[1, 2], [3, 4], [5, 6]], **{"be/havior": [[7], [8], [9]]})
    written.save(tmp_path)
    read = ItemEmbeddings.load(tmp_path)
    assert list(read.features) == ["text", "be/havior"]
    assert read.dims == {"text": 2, "be/havior": 1}
    assert read.features["text"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert isinstance(read.features["text"], np.memmap)
    assert read.count.tolist() == [3, 0, 5]


def test_batches_of_a_mapped_table(tmp_path):
    _embeddings(text=[[1, 2], [3, 4], [5, 6]]).save(tmp_path)
    read = ItemEmbeddings.load(tmp_path)
    some = read.batch(np.array([2, 0]))
    assert some.index.tolist() == [2, 0]
    assert some.features["text"].tolist() == [[5, 6], [1, 2]]
    assert some.count.tolist() == [5, 3]
    whole = read.batch()
    whole.features["text"].zero_()  # a copy: the artifact on disk must not follow
    assert read.features["text"].sum() == 21


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_is_named_by_modality_and_row(tmp_path, bad):
    with pytest.raises(UserError, match="modality vision: row 1 holds NaN or Inf .1 of 3 rows") as caught:
        _embeddings(text=[[1], [2], [3]], vision=[[1], [bad], [3]]).save(tmp_path)
    assert "\n" not in str(caught.value)


def test_shapes_and_types_must_agree():
    count = np.array([3, 0, 5])
    with pytest.raises(ValueError, match=r"modality text is float32 \(2, 1\), wanted float32 \[3, dim\]"):
        _embeddings(text=[[1], [2]])
    with pytest.raises(ValueError, match="modality text is float64"):
        ItemEmbeddings(features={"text": np.ones((3, 1))}, count=count)
    with pytest.raises(ValueError, match="count is float64"):
        ItemEmbeddings(features={}, count=count.astype(float))
