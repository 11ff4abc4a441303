"""Richness sources, scales and the check against anti-correlated norms."""

import pytest
import torch

from adasid_exp.nn.richness import ClippedMinMax, L2Norm, LogCount, MinMax, Rank, Richness
from adasid_exp.types import UserError


def catalogue(items=200, *, sign=1, seed=0):
    """Embeddings whose norm rises (or falls) with the count by construction."""
    generator = torch.Generator().manual_seed(seed)
    count = 1 + torch.randperm(items, generator=generator)  # distinct: no ties for rounding to break
    direction = torch.nn.functional.normalize(torch.randn(items, 8, generator=generator), dim=1)
    return direction * count.float()[:, None].pow(sign), count


def richness(source, normalizer, check=True):
    return Richness(source=source, normalizer=normalizer, require_positive_correlation=check)


def test_minmax_of_norms_by_hand():
    model = richness(L2Norm(), MinMax(), check=False)
    behavior = torch.tensor([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0]])  # norms 5, 1, 10
    model.fit(behavior, torch.ones(3, dtype=torch.int64))
    torch.testing.assert_close(model(behavior, torch.ones(3)), torch.tensor([4 / 9, 0.0, 1.0]))


def test_log_count_by_hand():
    model = richness(LogCount(), MinMax())
    count = torch.tensor([1, 3, 7])  # log2(1 + n) = 1, 2, 3
    model.fit(torch.zeros(3, 2), count)
    torch.testing.assert_close(model(torch.zeros(3, 2), count), torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("scale", [0.01, 7.0])
@pytest.mark.parametrize("normalizer", [MinMax, Rank])
def test_scaling_all_embeddings_changes_nothing(scale, normalizer):
    behavior, count = catalogue()
    plain, scaled = richness(L2Norm(), normalizer()), richness(L2Norm(), normalizer())
    plain.fit(behavior, count)
    scaled.fit(behavior * scale, count)
    torch.testing.assert_close(scaled(behavior * scale, count), plain(behavior, count))


def test_shifting_all_norms_changes_nothing():
    behavior, count = catalogue()
    longer = behavior * (1 + 50 / behavior.norm(dim=1, keepdim=True))  # every norm grows by 50
    plain, shifted = richness(L2Norm(), MinMax()), richness(L2Norm(), MinMax())
    plain.fit(behavior, count)
    shifted.fit(longer, count)
    torch.testing.assert_close(shifted(longer, count), plain(behavior, count), atol=1e-5, rtol=1e-4)


def test_clipped_minmax_is_not_moved_by_one_extreme():
    behavior, count = catalogue(1000)
    behavior[0] *= 1e6 / behavior[0].norm()
    plain, clipped = (
        richness(L2Norm(), MinMax(), False),
        richness(L2Norm(), ClippedMinMax(low_quantile=0.01, high_quantile=0.99), False),
    )
    plain.fit(behavior, count)
    clipped.fit(behavior, count)
    assert plain(behavior, count).median() < 0.01
    assert 0.3 < clipped(behavior, count).median() < 0.7
    assert clipped(behavior, count).max() == 1


def test_ranks_are_uniform_over_the_catalogue():
    behavior, count = catalogue(501)
    model = richness(L2Norm(), Rank())
    model.fit(behavior, torch.arange(501) + 1 + behavior.norm(dim=1).argsort().argsort())
    assert model(behavior, count).mean().item() == pytest.approx(0.5, abs=1e-6)


def test_cold_items_have_no_richness_and_set_no_scale():
    behavior, count = catalogue(100)
    model, with_cold = richness(L2Norm(), MinMax()), richness(L2Norm(), MinMax())
    model.fit(behavior, count)
    padded = torch.cat([behavior, torch.zeros(1, 8), torch.full((1, 8), 1e6)])
    counts = torch.cat([count, torch.zeros(2, dtype=torch.int64)])
    with_cold.fit(padded, counts)
    assert torch.equal(with_cold(padded, counts)[:100], model(behavior, count))
    assert with_cold(padded, counts)[100:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("normalizer", [MinMax, Rank])
def test_equal_items_are_all_rich(normalizer):
    model = richness(LogCount(), normalizer())
    count = torch.full((4,), 9)
    model.fit(torch.zeros(4, 2), count)
    assert model(torch.zeros(4, 2), count).tolist() == [1.0] * 4


def test_falling_norms_are_refused_in_one_line_that_names_the_way_out():
    behavior, count = catalogue(sign=-1)
    with pytest.raises(UserError, match=r"richness@tokenizer.richness=log_count") as caught:
        richness(L2Norm(), MinMax()).fit(behavior, count)
    assert "\n" not in str(caught.value)
    assert "-1.00" in str(caught.value)


def test_falling_norms_pass_when_asked_to_or_when_counts_are_the_source():
    behavior, count = catalogue(sign=-1)
    richness(L2Norm(), MinMax(), check=False).fit(behavior, count)
    richness(LogCount(), Rank()).fit(behavior, count)


def test_a_catalogue_without_interactions_is_refused():
    with pytest.raises(UserError, match="no item has a training interaction"):
        richness(LogCount(), Rank()).fit(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("normalizer", [MinMax(), Rank(), ClippedMinMax(low_quantile=0.05, high_quantile=0.9)])
def test_a_loaded_scale_maps_new_items_alike(normalizer):
    behavior, count = catalogue()
    model = richness(L2Norm(), normalizer)
    model.fit(behavior, count)
    fresh = richness(
        L2Norm(),
        type(normalizer)(
            **({"low_quantile": 0.1, "high_quantile": 0.8} if isinstance(normalizer, ClippedMinMax) else {})
        ),
    )
    fresh.load_state_dict(model.state_dict())
    new, counts = catalogue(seed=5)
    assert torch.equal(fresh(new, counts), model(new, counts))
    assert fresh(new, counts).std() > 0
