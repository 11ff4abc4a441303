"""The alignment strength controller against the table worked out from the paper's Eq. 14."""

import pytest
import torch

from adasid_exp.functional.alignment import alignment_weight

RICHNESS = [0.0, 0.25, 0.4, 0.5, 0.75, 0.9, 1.0]
TABLE = {
    (10, 9): [1.6879e-4, 2.0534e-3, 9.1550e-3, 2.4603e-2, 0.249536, 0.683940, 1],
    (20, 7): [9.1105e-4, 0.119203, 0.731060, 0.952576, 0.999667, 0.999986, 1],
    (20, 9): [1.2340e-4, 1.7987e-2, 0.268946, 0.731071, 0.997544, 0.999893, 1],
    (20, 14): [8.3359e-7, 1.2370e-4, 2.4788e-3, 1.8031e-2, 0.732871, 0.984448, 1],
}


@pytest.mark.parametrize("curve", TABLE)
def test_table_of_the_paper(curve):
    weight = alignment_weight(torch.tensor(RICHNESS), alpha=curve[0], beta=curve[1])
    torch.testing.assert_close(weight, torch.tensor(TABLE[curve], dtype=torch.float32), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("curve", "level", "richness"),
    [
        ((10, 9), 0.01, 0.4089),
        ((10, 9), 0.1, 0.6460),
        ((10, 9), 0.5, 0.8449),
        ((20, 7), 0.5, 0.35),
        ((20, 14), 0.1, 0.59),
    ],
)
def test_where_the_curve_reaches_a_level(curve, level, richness):
    weight = alignment_weight(torch.tensor([richness - 1e-4, richness + 1e-4]), alpha=curve[0], beta=curve[1])
    assert weight[0] < level < weight[1]


@pytest.mark.parametrize("curve", TABLE)
def test_exactly_one_at_the_top_and_strictly_rising(curve):
    weight = alignment_weight(torch.linspace(0, 1, 101), alpha=curve[0], beta=curve[1])
    assert weight[-1] == 1
    assert (weight.diff() > 0).all()


def test_ranked_richness_silences_the_paper_s_forty_percent():
    """Law: under uniform richness the share with w < 0.01 is where the curve crosses 0.01."""
    weight = alignment_weight(torch.linspace(0, 1, 10_001), alpha=10, beta=9)
    assert (weight < 0.01).float().mean() == pytest.approx(0.409, abs=1e-3)
