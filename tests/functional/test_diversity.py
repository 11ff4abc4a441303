"""LETTER's diversity term against the loop of the paper's code and against laws."""

import math

import pytest
import torch

from adasid_exp.functional.diversity import cluster_partners, diversity_loss

CLUSTERS = torch.tensor([[1, 0, 1, 2, 0, 1], [0, 0, 0, 0, 0, 0]])


def draws(items, levels=2):
    return torch.rand(items, levels, generator=torch.Generator().manual_seed(0))


def test_partners_are_others_of_the_cluster_and_all_alike():
    codes = torch.arange(6).repeat(1000).unsqueeze(1).expand(-1, 2)
    partners = cluster_partners(codes, CLUSTERS, draws(6000))
    seen = [{code: partners[codes[:, 0] == code, level] for code in range(6)} for level in range(2)]
    assert set(seen[0][0].tolist()) == {2, 5}
    assert set(seen[0][1].tolist()) == {4}
    for code in range(6):
        others = seen[1][code].bincount(minlength=6)
        assert others[code] == 0
        # 1000 draws among five: 200 each, standard deviation 12.6.
        assert int((others[others > 0] - 200).abs().max()) < 60
        assert int((others > 0).sum()) == 5


def test_a_code_alone_has_no_partner_and_no_loss():
    # The paper's code would look for another one forever.
    codes = torch.tensor([[3, 1]])
    partners = cluster_partners(codes, CLUSTERS, draws(1))
    assert partners[0, 0] == 3
    words = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    diversity_loss(words, codes, partners).mean().backward()
    assert bool(words.grad.isfinite().all())
    assert words.grad[0].abs().sum() == 0.0
    assert bool(words.grad[1].any())


def test_the_loss_item_by_item():
    # Reference: the formula of spec section 6 in a loop.
    generator = torch.Generator().manual_seed(1)
    words = torch.randn(2, 6, 4, generator=generator)
    codes = torch.randint(0, 6, (30, 2), generator=generator)
    partners = cluster_partners(codes, CLUSTERS, draws(30))
    levels = []
    for level in range(2):
        total = 0.0
        for code, partner in zip(codes[:, level].tolist(), partners[:, level].tolist(), strict=True):
            if code != partner:
                products = [(words[level, code] @ words[level, other]).item() for other in range(6)]
                rest = sum(math.exp(product) for other, product in enumerate(products) if other != code)
                total += math.log(rest) - products[partner]
        levels.append(total / 30)
    assert diversity_loss(words, codes, partners).mean().item() == pytest.approx(sum(levels) / 2, rel=1e-5)


def test_equal_codewords_cost_the_logarithm_of_the_others():
    codes = torch.zeros(5, 2, dtype=torch.int64)
    partners = cluster_partners(codes, CLUSTERS, draws(5))
    assert diversity_loss(torch.ones(2, 6, 3), codes, partners).mean().item() == pytest.approx(math.log(5))
