"""Metrics against torchmetrics, scikit-learn and FuxiCTR."""

import numpy as np
import pytest
import torch
from references import fuxictr_gauc
from shipped import USERS
from sklearn.metrics import roc_auc_score
from torchmetrics.retrieval import RetrievalNormalizedDCG, RetrievalRecall

from adasid_exp.functional.click import auc, click_summary, wins_by_group
from adasid_exp.functional.ranking import ranking_sums
from conftest import AtLeast

ROWS, ROWS_A_USER, SHARE = 10_000_000, 100, 50


def test_ranking_metrics_against_torchmetrics(compare):
    random = np.random.default_rng(0)
    above = torch.from_numpy(np.minimum(random.geometric(0.02, USERS) - 1, 12_000))
    tied, cutoffs = torch.ones_like(above), torch.tensor([5, 10, 50, 100])
    relevant = (above[:, None] == torch.arange(100)).flatten()
    scores = torch.arange(100, 0, -1).float().repeat(USERS)
    queries = torch.arange(USERS).repeat_interleave(100)
    metrics = {
        "recall": RetrievalRecall(top_k=50, empty_target_action="neg"),
        "ndcg": RetrievalNormalizedDCG(top_k=50, empty_target_action="neg"),
    }

    def torchmetrics_two():
        for metric in metrics.values():
            metric.reset()
            metric.update(scores, relevant, indexes=queries)
        return {name: float(metric.compute()) for name, metric in metrics.items()}

    theirs, sums = torchmetrics_two(), ranking_sums(above, tied, cutoffs)
    assert float(sums.recall[2]) / USERS == pytest.approx(theirs["recall"], abs=1e-6)
    assert float(sums.ndcg[2]) / USERS == pytest.approx(theirs["ndcg"], abs=1e-6)
    compare(
        "Recall and NDCG at 4 cutoffs",
        AtLeast(goal=100),
        ours=lambda: [ranking_sums(above, tied, cutoffs) for _ in range(10)],
        ours_units=10,
        reference=torchmetrics_two,
        against="torchmetrics at one cutoff",
        note=f"{USERS} users x 100",
        rounds=3,
        warmup=0,
    )


@pytest.fixture(scope="module")
def clicks():
    """Impressions with ties (scores of three decimals for a tenth of the rows) and one-class users."""
    random = np.random.default_rng(0)
    users = ROWS // ROWS_A_USER
    user = random.integers(0, users, ROWS)
    taste = random.standard_normal(users).astype(np.float32)
    score = random.standard_normal(ROWS).astype(np.float32) + taste[user]
    score[: ROWS // 10] = score[: ROWS // 10].round(3)
    label = random.random(ROWS) < 1 / (1 + np.exp(2 - score - 2 * taste[user]))
    return user, score, label.astype(np.int8)


def test_auc_against_scikit_learn(compare, clicks):
    _, score, label = clicks
    scores, labels = torch.from_numpy(score), torch.from_numpy(label)
    assert float(auc(scores, labels)) == pytest.approx(roc_auc_score(label, score), abs=1e-9)
    compare(
        "AUC of 10 M rows",
        AtLeast(goal=3),
        ours=lambda: auc(scores, labels),
        reference=lambda: roc_auc_score(label, score),
        against="scikit-learn",
        rounds=3,
        warmup=0,
    )


def test_gauc_against_the_loop_of_fuxictr(compare, clicks):
    user, score, label = clicks
    sample = user < user.max() // SHARE
    part = (user[sample], score[sample], label[sample])
    expected = fuxictr_gauc(*part)
    assert float(click_summary(*map(torch.from_numpy, part)).gauc) == pytest.approx(expected, abs=1e-9)
    users, scores, labels = map(torch.from_numpy, clicks)

    def gauc():
        by_user = wins_by_group(scores, labels, users, ROWS // ROWS_A_USER)
        kept = by_user.defined
        return (by_user.auc[kept] * by_user.rows[kept]).sum() / by_user.rows[kept].sum()

    assert float(gauc()) == pytest.approx(float(click_summary(users, scores, labels).gauc), abs=1e-12)
    compare(
        "GAUC of 10 M rows, 100 k users",
        AtLeast(goal=100),
        ours=gauc,
        ours_units=ROWS,
        reference=lambda: fuxictr_gauc(*part),
        reference_units=int(sample.sum()),
        against="scikit-learn user by user (FuxiCTR), a row",
        note=f"the loop ran on 1/{SHARE} of the users",
        rounds=3,
        warmup=0,
    )
