"""Bootstraps against closed forms, literal resampling and coverage."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from adasid_exp.reporting.statistics import (
    Bootstrap,
    difference_of_auc,
    difference_of_gauc,
    difference_of_means,
    mean_std,
    resampled_auc,
)

HOW = Bootstrap(resamples=4000, level=0.95, seed=0)


def clicks(seed=0, rows=300, users=40):
    random = np.random.default_rng(seed)
    user = random.integers(0, users, rows) * 7  # names need not be dense
    label = (random.random(rows) < 0.6).astype(np.int8)
    good = (label + random.standard_normal(rows)).round(1)  # rounded: ties
    return user, label, good, random.standard_normal(rows).round(1)


def auc_against(user, label, first, second, how):
    """Two methods' scores by seed, resampled and subtracted."""
    return difference_of_auc(resampled_auc(user, label, first, how), resampled_auc(user, label, second, how), how)


def literal_auc_bootstrap(user, label, first, second, how):
    """The definition: concatenate the drawn users' rows and ask scikit-learn."""
    names = np.unique(user)
    draws = np.random.default_rng(how.seed).integers(0, len(names), (how.resamples, len(names)))
    rows_of = [np.flatnonzero(user == name) for name in names]
    found = []
    for draw in draws:
        rows = np.concatenate([rows_of[one] for one in draw])
        found.append(roc_auc_score(label[rows], first[rows]) - roc_auc_score(label[rows], second[rows]))
    return np.quantile(found, [0.025, 0.975])


def test_mean_and_std_by_hand():
    three = mean_std([1.0, 2.0, 4.0])
    # Squared distances from 7/3 are 16/9, 1/9, 25/9: their sum over n - 1 is 7/3.
    assert (three.mean, three.runs) == (pytest.approx(7 / 3), 3)
    assert three.std == pytest.approx(math.sqrt(7 / 3))
    assert mean_std([0.5]).std is None
    with pytest.raises(ValueError, match="at least one"):
        mean_std([])


def test_interval_and_p_value_are_those_of_the_normal_law():
    """The bootstrap of a mean is normal with the plug-in standard error, for many users."""
    random = np.random.default_rng(1)
    second = random.standard_normal(2000)
    first = second + 0.04 + random.standard_normal(2000)
    found = difference_of_means(first, second, None, Bootstrap(resamples=20_000, level=0.95, seed=0))
    gain = first - second
    error = gain.std() / math.sqrt(2000)
    assert found.value == pytest.approx(gain.mean(), abs=1e-12)
    assert found.low == pytest.approx(gain.mean() - 1.96 * error, abs=0.05 * error)
    assert found.high == pytest.approx(gain.mean() + 1.96 * error, abs=0.05 * error)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(gain.mean()) / error), abs=0.02)
    assert found.users == 2000


def test_two_users_give_the_binomial_law():
    # Gains 1 and -1: the resampled mean is -1, 0, 1 with chances 1/4, 1/2, 1/4.
    found = difference_of_means(np.array([1.0, 0.0]), np.array([0.0, 1.0]), None, HOW)
    assert (found.value, found.low, found.high, found.p_value) == (0.0, -1.0, 1.0, 1.0)


def test_a_constant_gain_is_certain_and_its_p_value_the_smallest_there_is():
    second = np.random.default_rng(2).random(50)
    found = difference_of_means(second + 0.25, second, None, HOW)
    assert found.low == pytest.approx(0.25)
    assert found.high == pytest.approx(0.25)
    assert found.p_value == pytest.approx(2 / 4001)


def test_no_difference_has_p_value_one():
    same = np.random.default_rng(3).random(50)
    found = difference_of_means(same, same, None, HOW)
    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_swapping_the_methods_mirrors_the_result():
    user, label, good, bad = clicks()
    for test in (auc_against, difference_of_gauc):
        one, other = test(user, label, [good], [bad], HOW), test(user, label, [bad], [good], HOW)
        assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
        assert one.p_value == other.p_value


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(4)
    how = Bootstrap(resamples=400, level=0.9, seed=0)
    covered = 0
    for _ in range(300):
        found = difference_of_means(random.standard_normal(60) + 0.3, np.zeros(60), None, how)
        covered += found.low <= 0.3 <= found.high
    assert covered / 300 == pytest.approx(0.9, abs=0.06)  # three and a half standard errors


def test_weights_make_a_ratio_of_sums():
    first, second, weight = np.array([1.0, 0.0, 0.5]), np.zeros(3), np.array([1.0, 3.0, 2.0])
    found = difference_of_means(first, second, weight, HOW)
    assert found.value == pytest.approx((1 * 1 + 0 * 3 + 0.5 * 2) / 6)
    assert (found.low, found.high) == (0.0, 1.0)  # three times the second user, three times the first


def test_auc_bootstrap_is_the_literal_one():
    user, label, good, bad = clicks()
    how = Bootstrap(resamples=200, level=0.95, seed=5)
    found = auc_against(user, label, [good], [bad], how)
    assert found.value == pytest.approx(roc_auc_score(label, good) - roc_auc_score(label, bad), abs=1e-12)
    assert [found.low, found.high] == pytest.approx(literal_auc_bootstrap(user, label, good, bad, how), abs=1e-12)
    assert found.users == len(np.unique(user))


def test_chunks_do_not_change_the_draws(monkeypatch):
    user, label, good, bad = clicks()
    whole = auc_against(user, label, [good], [bad], HOW)
    monkeypatch.setattr("adasid_exp.reporting.statistics.CHUNK", 1000)
    assert auc_against(user, label, [good], [bad], HOW) == whole


def test_gauc_rests_on_users_with_both_classes():
    user, label, good, bad = clicks(rows=60)
    both = [one for one in np.unique(user) if 0 < label[user == one].mean() < 1]
    rows = [int((user == one).sum()) for one in both]

    def gauc(score):
        areas = [roc_auc_score(label[user == one], score[user == one]) for one in both]
        return np.average(areas, weights=rows)

    found = difference_of_gauc(user, label, [good], [bad], HOW)
    assert found.value == pytest.approx(gauc(good) - gauc(bad), abs=1e-12)
    assert found.users == len(both) < len(np.unique(user))


def test_read_only_columns_and_unequal_lengths():
    user, label, good, bad = clicks()
    for column in (user, label, good, bad):
        column.flags.writeable = False  # as polars hands them out
    assert difference_of_gauc(user, label, [good], [bad], HOW).value > 0
    with pytest.raises(ValueError, match="one length"):
        difference_of_means(good, bad[:-1], None, HOW)


def test_seeds_are_averaged_within_each_user():
    # Law: two seeds of which one is the other method's scores give half the difference, in AUC and in GAUC.
    user, label, good, bad = clicks()
    for test in (auc_against, difference_of_gauc):
        whole, half = test(user, label, [good], [bad], HOW), test(user, label, [good, bad], [bad, bad], HOW)
        assert half.value == pytest.approx(whole.value / 2)
        assert half.low == pytest.approx(whole.low / 2)
