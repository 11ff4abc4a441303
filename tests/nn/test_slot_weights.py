"""Weights of slots, by hand."""

import pytest
import torch

from adasid_exp.nn.slot_weights import ArtifactWeights, EqualWeights, MaskPad, PredictPad
from adasid_exp.types import PAD, SidTable

CODES = torch.tensor([[0, 1, PAD], [2, PAD, PAD], [1, 0, 2]])


@pytest.fixture
def sids():
    """One text slot and two behavior slots; the positive behavior weights 2, 1, 9 have mean 4."""
    return SidTable(
        codes=CODES,
        weights=torch.tensor([[1.0, 2.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 9.0]]),
        sizes=(3, 3, 3),
        modalities=("text", "behavior", "behavior"),
        ordered=False,
    )


def test_equal_weights_are_one_where_used(sids):
    assert EqualWeights()(sids).tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_artifact_weights_are_over_the_behavior_mean_and_capped(sids):
    assert ArtifactWeights(cap=2.0)(sids).tolist() == [[1, 0.5, 0], [1, 0, 0], [1, 0.25, 2.0]]


def test_predicted_pad_gets_a_share_of_the_mean(sids):
    """Mean positive weight of (1, .5, 1, 1, .25, 2) is 5.75 / 6."""
    policy = PredictPad(share=0.1)
    weights = policy.target_weights(CODES, ArtifactWeights(cap=2.0)(sids))
    pad = 0.1 * 5.75 / 6
    torch.testing.assert_close(weights, torch.tensor([[1, 0.5, pad], [1, pad, pad], [1, 0.25, 2.0]]))
    assert policy.predicted(CODES).tolist() == [False, True, True]
    assert policy.score_weights(CODES) is None


def test_masked_pad_counts_nowhere(sids):
    policy = MaskPad()
    assert policy.target_weights(CODES, EqualWeights()(sids)).tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    assert policy.predicted(CODES).tolist() == [False, False, False]
    wanted = torch.tensor([[0.5, 0.5, 0], [1, 0, 0], [1 / 3] * 3])
    torch.testing.assert_close(policy.score_weights(CODES), wanted)


def test_an_item_of_nothing_but_pad_cannot_be_scored_by_a_mean():
    with pytest.raises(ValueError, match="uses no slot"):
        MaskPad().score_weights(torch.tensor([[PAD, PAD]]))
