import numpy as np
import pytest

from adasid_exp.encoders.array import ArrayFile
from adasid_exp.types import UserError


def silent(done, total):
    pass


def written(folder, vectors, ids):
    np.save(folder / "v.npy", vectors)
    (folder / "ids.txt").write_text("\n".join(ids) + "\n")
    return ArrayFile(vectors=str(folder / "v.npy"), ids=str(folder / "ids.txt"))


def encode(encoder, *names):
    return encoder.encode([{"item_id": name} for name in names], silent)


def test_rows_are_found_by_id(tmp_path):
    encoded = encode(written(tmp_path, np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float16), ["a", "b", "c"]), *"cxa")
    assert encoded.vectors.tolist() == [[5, 6], [0, 0], [1, 2]]
    assert encoded.missing == (1,)


@pytest.mark.parametrize(
    ("vectors", "ids", "message"),
    [
        (np.ones((3, 2)), ["a", "b"], r"has 3 rows but .* 2 ids"),
        (np.array([[1.0, 2.0], [np.nan, 0.0]]), ["a", "b"], r"row 1 holds NaN or Inf \(1 such rows\)"),
        (np.array([[1.0, 2.0], [np.inf, 0.0]]), ["a", "b"], r"row 1 holds NaN or Inf"),
        (np.ones((2, 2)), ["a", "a"], r"names 'a' more than once"),
        (np.ones(2), ["a", "b"], r"numbers \[rows, dim\] are needed"),
        (np.ones((1, 2)), ["z"], r"names no item of the catalogue, such as a"),
    ],
)
def test_faults_are_named(tmp_path, vectors, ids, message):
    with pytest.raises(UserError, match=message):
        encode(written(tmp_path, vectors, ids), "a", "b")


def test_a_missing_or_foreign_file_is_named(tmp_path):
    encoder = written(tmp_path, np.ones((1, 2)), ["a"])
    (tmp_path / "v.npy").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"v\.npy is no \.npy array"):
        encode(encoder, "a")
    (tmp_path / "v.npy").unlink()
    with pytest.raises(UserError, match=r"no file .*v\.npy"):
        encoder.fingerprint()
