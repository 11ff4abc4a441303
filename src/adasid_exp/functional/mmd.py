"""Maximum mean discrepancy with a Gaussian kernel, as MME-SID takes it from tllib (arXiv 2509.02017; spec section 9)."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-12
"""Floor of the kernel's variance: a batch of equal rows has none."""


def mmd(left: Tensor, right: Tensor) -> Tensor:
    """Squared discrepancy of two samples ``[items, dim]`` plus ``2/(items - 1)``, which keeps it positive; a scalar.

    Rows are compared as sets: permuting either sample changes nothing. The kernel's variance is half the mean
    squared distance of all pairs of rows of both samples, without gradient. 0 for a single item.
    """
    items = left.shape[0]
    if items < 2:
        return (left - right).sum() * 0.0
    variance = kernel_variance(left, right).clamp(min=SMALLEST)
    pairs = items * (items - 1)
    # A row's kernel with itself is 1: the sum without the diagonal is the whole sum less the number of items.
    within = [(kernel_sum(rows, rows, variance) - items) / pairs for rows in (left, right)]
    across = 2.0 * kernel_sum(left, right, variance) / items**2
    return within[0] + within[1] - across + 2.0 / (items - 1)


@torch.no_grad()
def kernel_variance(left: Tensor, right: Tensor) -> Tensor:
    """Half the mean of all squared distances among the rows of both, by their moments: no pair is formed."""
    rows = torch.cat([left, right])
    return (rows - rows.mean(dim=0)).square().sum(dim=1).mean()


def kernel_sum(left: Tensor, right: Tensor, variance: Tensor) -> Tensor:
    """Sum of ``exp(-|a - b|^2 / (2 variance))`` over all pairs of rows; a scalar."""
    scale = 0.5 / variance
    own, other = scale * left.square().sum(dim=1, keepdim=True), scale * right.square().sum(dim=1)
    return torch.addmm(-other, 2.0 * scale * left, right.T).sub_(own).exp_().sum()
