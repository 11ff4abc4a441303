"""Recall and NDCG with ties: hand-worked vectors, a brute force over orders, and the sum form."""

import itertools
import math

import pytest
import torch

from adasid_exp.functional.ranking import expected_ndcg, expected_recall, ranking_sums


def brute_force(above, tied, cutoff):
    """Mean over every order of the tied block of the two textbook metrics."""
    ranks = [above + place for place in range(1, tied + 1)]
    recall = sum(rank <= cutoff for rank in ranks) / tied
    ndcg = sum(1 / math.log2(1 + rank) for rank in ranks if rank <= cutoff) / tied
    return recall, ndcg


@pytest.mark.parametrize(
    ("above", "tied", "recall", "ndcg"),
    [
        (0, 1, 1.0, 1.0),  # rank 1
        (2, 1, 1.0, 0.5),  # rank 3: 1 / log2(4)
        (50, 1, 0.0, 0.0),  # rank 51 is out
        (48, 4, 0.5, (1 / math.log2(50) + 1 / math.log2(51)) / 4),  # ranks 49..52, two of four inside
        (0, 2, 1.0, (1 + 1 / math.log2(3)) / 2),
        (60, 100, 0.0, 0.0),
        (0, 100, 0.5, None),
    ],
)
def test_hand_worked_at_50(above, tied, recall, ndcg):
    arguments = torch.tensor([above]), torch.tensor([tied]), torch.tensor([50])
    assert expected_recall(*arguments).item() == pytest.approx(recall, abs=1e-15)
    if ndcg is not None:
        assert expected_ndcg(*arguments).item() == pytest.approx(ndcg, abs=1e-15)


def test_equal_to_brute_force_over_the_block():
    cases = list(itertools.product(range(0, 13), range(1, 9)))
    above, tied = (torch.tensor(column) for column in zip(*cases, strict=True))
    cutoffs = torch.tensor([1, 5, 10])
    recall, ndcg = expected_recall(above, tied, cutoffs), expected_ndcg(above, tied, cutoffs)
    for row, (a, m) in enumerate(cases):
        for column, cutoff in enumerate([1, 5, 10]):
            wanted = brute_force(a, m, cutoff)
            assert (recall[row, column].item(), ndcg[row, column].item()) == pytest.approx(wanted, abs=1e-12)


def test_sums_equal_the_sum_of_the_expectations():
    generator = torch.Generator().manual_seed(0)
    above = torch.randint(0, 200, (4000,), generator=generator)
    tied = torch.where(
        torch.rand(4000, generator=generator) < 0.7, 1, torch.randint(1, 30, (4000,), generator=generator)
    )
    cutoffs = torch.tensor([100, 5, 50, 10])  # in no particular order
    sums = ranking_sums(above, tied, cutoffs)
    torch.testing.assert_close(sums.recall, expected_recall(above, tied, cutoffs).sum(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(sums.ndcg, expected_ndcg(above, tied, cutoffs).sum(0), rtol=1e-12, atol=0)


def test_no_user_gives_zero_sums():
    nobody = torch.zeros(0, dtype=torch.int64)
    sums = ranking_sums(nobody, nobody, torch.tensor([5, 10]))
    assert sums.recall.tolist() == [0.0, 0.0]
    assert sums.ndcg.tolist() == [0.0, 0.0]


def test_ndcg_gain_between_cutoffs_obeys_the_single_target_bound():
    """One target per user: N@100 - N@50 <= (R@100 - R@50) / log2(52) whatever the ranks are."""
    generator = torch.Generator().manual_seed(1)
    above = torch.randint(0, 150, (3000,), generator=generator)
    sums = ranking_sums(above, torch.randint(1, 5, (3000,), generator=generator), torch.tensor([50, 100]))
    assert sums.ndcg.diff() <= sums.recall.diff() / math.log2(52) + 1e-9
