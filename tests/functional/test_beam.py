"""Lists of a beam: places, items and overlaps against sets and loops in Python."""

import torch

from adasid_exp.functional.beam import SidBeam, items_in_beam, overlap_at, rank_in_beam
from adasid_exp.functional.ragged import best_entries, expanded, padded
from adasid_exp.functional.ranking import expected_ndcg, expected_recall
from adasid_exp.functional.scoring import distinct_rows

ROWS = torch.tensor([[0, 5], [1, 5], [0, 5], [2, 4], [1, 5], [0, 5], [2, 6]]).int()
"""SIDs of seven items: (0, 5) of three, (1, 5) of two, and two of one item each."""


def sid_of(item):
    return int(distinct_rows(ROWS).of_item[item])


def beam_of(items, scores):
    return SidBeam(sids=torch.tensor([[sid_of(i) for i in items]]), scores=torch.tensor([scores]))


def test_rank_by_hand():
    """Three items of (0, 5) stand above the two of (1, 5), which share ranks 4 and 5."""
    beam = beam_of([0, 1, 3], [-0.5, -1.0, -2.0])
    rank = rank_in_beam(beam, distinct_rows(ROWS), torch.tensor([4]))
    assert (rank.above.item(), rank.tied.item(), rank.sid_above.item(), rank.sid_tied.item()) == (3, 2, 1, 1)
    # Half of the orders of the tied block put item 4 on rank 4.
    assert expected_recall(rank.above, rank.tied, torch.tensor([4])).item() == 0.5


def test_equal_scores_of_two_sids_are_one_block():
    beam = beam_of([0, 1, 3], [-0.5, -1.0, -1.0])
    rank = rank_in_beam(beam, distinct_rows(ROWS), torch.tensor([3]))
    assert (rank.above.item(), rank.tied.item(), rank.sid_above.item(), rank.sid_tied.item()) == (3, 3, 1, 2)


def test_a_sid_that_was_not_found_counts_in_no_list():
    """Spec section 13.5: rank infinite. Law: Recall and NDCG are 0 at every cutoff up to the beam, and up to 7."""
    rank = rank_in_beam(beam_of([0, 1, 3], [-0.5, -1.0, -2.0]), distinct_rows(ROWS), torch.tensor([6]))
    cutoffs = torch.tensor([1, 3, 7])
    assert not expected_recall(rank.above, rank.tied, cutoffs).any()
    assert not expected_ndcg(rank.above, rank.tied, cutoffs).any()


def test_items_by_score_then_number():
    beam = beam_of([1, 3, 6, 0], [-0.5, -1.0, -1.0, -3.0])
    top = items_in_beam(beam, distinct_rows(ROWS), 6)
    assert top.items.tolist() == [[1, 4, 3, 6, 0, 2]]
    assert top.scores.tolist() == [[-0.5, -0.5, -1.0, -1.0, -3.0, -3.0]]
    assert items_in_beam(beam, distinct_rows(ROWS), 100).items.tolist() == [[1, 4, 3, 6, 0, 2, 5]]


def test_overlap_equals_that_of_sets():
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([torch.randperm(30, generator=generator)[:12] for _ in range(50)])
    exact = torch.stack([torch.randperm(30, generator=generator)[:20] for _ in range(50)])
    cutoffs = (1, 5, 12, 20, 99)
    share = overlap_at(found, exact, torch.tensor(cutoffs))
    for user in range(50):
        for column, n in enumerate(cutoffs):
            best = exact[user, :n].tolist()
            both = set(found[user, :n].tolist()) & set(best)
            assert share[user, column].item() == len(both) / len(best)


def test_ragged_lists_equal_python_lists():
    generator = torch.Generator().manual_seed(1)
    lists = [torch.randn(int(n), generator=generator).round(decimals=1).tolist() for n in (4, 0, 1, 9, 3)]
    many = torch.tensor([len(part) for part in lists])
    owner, place = expanded(many)
    assert [(o, p) for o, part in enumerate(lists) for p in range(len(part))] == list(
        zip(owner.tolist(), place.tolist(), strict=True)
    )
    values = torch.tensor([v for part in lists for v in part])
    longest = max(map(len, lists))
    rows = torch.tensor([part + [7.0] * (longest - len(part)) for part in lists])
    assert torch.equal(padded(values, many, 7.0), rows)
    kept, count = best_entries(values, many, 3)
    expected, start = [], 0
    for part in lists:
        best = sorted(range(len(part)), key=lambda i, part=part: (-part[i], i))[:3]
        expected += [start + i for i in best]
        start += len(part)
    assert kept.tolist() == expected
    assert count.tolist() == [min(3, len(part)) for part in lists]
