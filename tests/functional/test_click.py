"""AUC and GAUC against hand-worked cases, scikit-learn and brute force over all pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from adasid_exp.functional.click import auc, click_summary, wins_by_group


def draw(seed, rows, users, levels, dtype=torch.float32):
    """Random rows; few ``levels`` of score mean many ties."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.randint(0, levels, (rows,), generator=generator).to(dtype) / 7 - levels / 20
    label = (torch.rand(rows, generator=generator) < 0.6).to(torch.int64)
    user = torch.randint(0, users, (rows,), generator=generator)
    return user, score, label


def brute_force(score, label):
    """Share of (positive, negative) pairs won, a tie counting half."""
    gap = score[label == 1][:, None] - score[label == 0][None, :]
    return ((gap > 0).double() + 0.5 * (gap == 0).double()).mean()


def gauc_by_loop(user, score, label):
    """DIN's GAUC as FuxiCTR writes it: a loop over users around scikit-learn."""
    areas, rows = [], []
    for one in user.unique():
        mine = user == one
        if 0 < int(label[mine].sum()) < int(mine.sum()):
            areas.append(roc_auc_score(label[mine].numpy(), score[mine].numpy()))
            rows.append(int(mine.sum()))
    return np.average(areas, weights=rows), np.mean(areas), len(areas), sum(rows)


def test_auc_of_the_textbook_case():
    # Pairs (positive, negative): .35 beats .1 but not .4; .8 beats both: 3 of 4.
    assert auc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])) == 0.75


def test_a_tie_counts_half():
    assert auc(torch.tensor([0.5, 0.5]), torch.tensor([0, 1])) == 0.5
    # .5 ties with one negative and beats the other: 1.5 of 2.
    assert auc(torch.tensor([0.5, 0.5, 0.1]), torch.tensor([0, 1, 0])) == 0.75


def test_one_class_or_no_row_has_no_auc():
    assert auc(torch.tensor([0.1, 0.4]), torch.tensor([1, 1])).isnan()
    assert auc(torch.tensor([0.1, 0.4]), torch.tensor([0, 0])).isnan()
    assert auc(torch.empty(0), torch.empty(0)).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [1, 3, 50, 10**6])
def test_auc_equals_sklearn(dtype, levels):
    _, score, label = draw(0, 5000, 1, levels, dtype)
    assert float(auc(score, label)) == pytest.approx(roc_auc_score(label.numpy(), score.numpy()), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_gauc_equals_a_loop_over_users(dtype, levels):
    user, score, label = draw(1, 3000, 700, levels, dtype)  # about four rows a user: many have one class
    found = click_summary(user, score, label)
    weighted, plain, kept, rows = gauc_by_loop(user, score, label)
    assert float(found.gauc) == pytest.approx(weighted, abs=1e-12)
    assert float(found.gauc_plain) == pytest.approx(plain, abs=1e-12)
    assert (int(found.users_kept), int(found.users_total)) == (kept, len(user.unique()))
    assert kept < len(user.unique())
    assert float(found.rows_kept) == pytest.approx(rows / 3000)


def test_gauc_by_hand():
    # User 0: 1 of 1 pair. User 2: its positive loses to one negative and ties with the other: .25 of 1.
    # User 5 has one class.
    user = torch.tensor([0, 2, 5, 2, 0, 2])
    score = torch.tensor([0.9, 0.3, 0.1, 0.3, 0.2, 0.7])
    label = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    found = click_summary(user, score, label)
    assert float(found.gauc) == pytest.approx((2 * 1 + 3 * 0.25) / 5)
    assert float(found.gauc_plain) == pytest.approx((1 + 0.25) / 2)
    assert (int(found.users_kept), int(found.users_total)) == (2, 3)
    assert float(found.rows_kept) == pytest.approx(5 / 6)


def test_no_user_with_both_classes_leaves_gauc_undefined_but_counted():
    found = click_summary(torch.tensor([0, 1]), torch.tensor([0.2, 0.4]), torch.tensor([0, 1]))
    assert float(found.auc) == 1.0
    assert found.gauc.isnan()
    assert (int(found.users_kept), int(found.users_total), float(found.rows_kept)) == (0, 2, 0.0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([-np.inf, -3e38, -1.5, -1e-45, -0.0, 0.0, 1e-45, 0.5, 1.5, np.inf]),
            st.booleans(),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_kind_of_float_is_ordered_rightly(rows):
    """Brute force is the law; -0.0 ties with 0.0, denormals and infinities keep their order."""
    group, score, label = (torch.tensor(column) for column in zip(*rows, strict=True))
    for dtype in (torch.float32, torch.float64):
        values = score.to(dtype)
        wins = wins_by_group(values, label, group, 4)
        for one in range(4):
            mine = group == one
            positive, negative = values[mine & label].tolist(), values[mine & ~label].tolist()
            doubled = sum(2 * (p > n) + (p == n) for p in positive for n in negative)
            assert int(wins.doubled_wins[one]) == doubled
            assert (int(wins.positives[one]), int(wins.negatives[one])) == (len(positive), len(negative))


def test_float64_scores_that_float32_cannot_tell_apart():
    score = torch.tensor([1.0, 1.0 + 2**-50, 1.0 + 2**-51], dtype=torch.float64)
    label = torch.tensor([0, 1, 0])
    assert auc(score, label) == 1.0
    assert click_summary(torch.zeros(3, dtype=torch.int64), score, label).gauc == 1.0


def test_strata_are_groups():
    _, score, label = draw(2, 400, 1, 10**6)
    head = torch.arange(400) % 3 == 0
    wins = wins_by_group(score, label, head.long(), 2)
    assert float(wins.auc[1]) == pytest.approx(float(brute_force(score[head], label[head])), abs=1e-12)
    assert float(wins.auc[0]) == pytest.approx(float(brute_force(score[~head], label[~head])), abs=1e-12)


def test_order_of_rows_and_monotone_maps_change_nothing():
    user, score, label = draw(3, 500, 40, 30)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    before = click_summary(user, score, label)
    after = click_summary(user[order], 4 * score[order], label[order])  # a factor of 4 is exact
    assert (before.auc, before.gauc) == (after.auc, after.gauc)


def test_half_precision_is_widened_exactly():
    _, score, label = draw(4, 300, 1, 20)
    half = score.bfloat16()
    assert auc(half, label) == auc(half.double(), label)


def test_faults_are_named():
    score = torch.tensor([0.1, 0.2])
    with pytest.raises(ValueError, match="equal length"):
        auc(score, torch.tensor([1]))
    with pytest.raises(ValueError, match="0 and 1"):
        auc(score, torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="nan"):
        auc(torch.tensor([0.1, torch.nan]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="0..1"):
        wins_by_group(score, torch.tensor([0, 1]), torch.tensor([0, 2]), 2)
    with pytest.raises(ValueError, match="64-bit"):
        wins_by_group(score.double() / 3, torch.tensor([0, 1]), torch.tensor([0, 2]), 2**63)
