"""Agreement of items that share a code: by hand, and against all pairs written out."""

from itertools import combinations

import numpy as np
import pytest

from adasid_exp.functional.agreement import copurchase_agreement, label_agreement
from adasid_exp.types import PAD


def test_labels_by_hand():
    # Items 0..4, codes A A A B PAD, labels x x y y ?: of the pairs of A one in three agrees; of the six pairs
    # of the four users of the column with a label, xx and yy agree: 2/6. Lift (1/3)/(1/3) = 1.
    codes, labels = np.array([[0], [0], [0], [1], [PAD]]), np.array([0, 0, 1, 1, -1])
    found = label_agreement(codes, labels)
    assert found.rate[0] == pytest.approx(1 / 3)
    assert found.base[0] == pytest.approx(2 / 6)
    assert found.lift[0] == pytest.approx(1.0)


def test_copurchases_by_hand():
    # User 0 has items 0, 1 (twice), user 1 has 1, 2. Pairs met: 01, 12. Codes A A B: the one pair of A has met: 1.
    # Base: 2 of 3 pairs. Lift 1.5. The second column is used by item 2 alone: no pair.
    codes = np.array([[0, PAD], [0, PAD], [1, 0]])
    found = copurchase_agreement(codes, user=np.array([0, 0, 0, 1, 1]), item=np.array([0, 1, 1, 1, 2]))
    assert found.rate[0] == pytest.approx(1.0)
    assert found.base[0] == pytest.approx(2 / 3)
    assert found.lift[0] == pytest.approx(1.5)
    assert np.isnan(found.rate[1])
    assert np.isnan(found.base[1])


def test_both_equal_all_pairs_written_out(monkeypatch):
    monkeypatch.setattr("adasid_exp.functional.agreement.CHUNK", 7)  # several chunks
    rng = np.random.default_rng(0)
    items, columns = 40, 3
    codes = rng.integers(PAD, 4, (items, columns))
    labels = rng.integers(-1, 3, items)
    user, item = rng.integers(0, 12, 60), rng.integers(0, items, 60)
    baskets = [set(item[user == u]) for u in range(12)]
    by_label, by_user = label_agreement(codes, labels), copurchase_agreement(codes, user, item)
    for column in range(columns):
        pairs = [(i, j) for i, j in combinations(range(items), 2) if PAD not in (codes[i, column], codes[j, column])]
        same = [codes[i, column] == codes[j, column] for i, j in pairs]
        met = [any({i, j} <= basket for basket in baskets) for i, j in pairs]
        assert by_user.base[column] == pytest.approx(np.mean(met))
        assert by_user.rate[column] == pytest.approx(np.mean(np.array(met)[same]))
        known = [min(labels[i], labels[j]) >= 0 for i, j in pairs]
        alike = np.array([labels[i] == labels[j] for i, j in pairs])
        assert by_label.base[column] == pytest.approx(alike[known].mean())
        assert by_label.rate[column] == pytest.approx(alike[np.array(known) & same].mean())


def test_no_interactions_agree_nowhere():
    none = np.zeros(0, dtype=np.int64)
    found = copurchase_agreement(np.array([[0], [0]]), user=none, item=none)
    assert found.rate.tolist() == found.base.tolist() == [0.0]
    assert np.isnan(found.lift[0])
