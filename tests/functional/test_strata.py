"""Head and tail: equal size whatever the ties, by count, the same for everybody."""

import numpy as np
import pytest

from adasid_exp.functional.strata import HEAD, MIDDLE, TAIL, strata_of


def test_a_quarter_each_by_count():
    # By hand: 9 items give two to the tail and two to the head.
    count = np.array([5, 1, 9, 2, 7, 3, 8, 4, 6])
    assert strata_of(count, 0.25, 0).tolist() == [MIDDLE, TAIL, HEAD, TAIL, MIDDLE, MIDDLE, HEAD, MIDDLE, MIDDLE]


def test_ties_do_not_change_the_sizes():
    # Law: a 5-core catalogue has most items at 5, where a threshold would take all or none.
    count = np.array([5] * 60 + [6] * 30 + [50] * 10)
    strata = strata_of(count, 0.25, 0)
    assert [(strata == s).sum() for s in (TAIL, MIDDLE, HEAD)] == [25, 50, 25]
    assert count[strata == TAIL].max() <= count[strata == MIDDLE].min() <= count[strata == HEAD].max()
    assert (strata == strata_of(count, 0.25, 0)).all()
    assert (strata != strata_of(count, 0.25, 1)).any()


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_shares_beyond_half_are_refused(share):
    with pytest.raises(ValueError, match="shares in"):
        strata_of(np.arange(10), share, 0)
