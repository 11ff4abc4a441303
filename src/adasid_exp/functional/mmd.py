"""Maximum mean discrepancy with a Gaussian kernel, as MME-SID takes it from tllib (arXiv 2509.02017)."""

from __future__ import annotations

from typing import Any

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
    with torch.autocast(left.device.type, enabled=False):  # a million terms are summed
        left, right = left.float(), right.float()
        variance = kernel_variance(left, right).clamp(min=SMALLEST)
        # A row's kernel with itself is 1: the sum without the diagonal is the whole sum less the number of items.
        within = own_kernel_sum(left, variance) + own_kernel_sum(right, variance) - 2.0 * items
        across = KernelSum.apply(left, right, variance)
        return within / (items * (items - 1)) - 2.0 * across / items**2 + 2.0 / (items - 1)


@torch.no_grad()
def kernel_variance(left: Tensor, right: Tensor) -> Tensor:
    """Half the mean of all squared distances among the rows of both, by their moments: no pair is formed."""
    rows = torch.cat([left, right])
    return (rows - rows.mean(dim=0)).square().sum(dim=1).mean()


def own_kernel_sum(rows: Tensor, variance: Tensor) -> Tensor:
    """Sum of the kernel over all ordered pairs of ``rows [items, dim]``; a scalar."""
    half = KernelSum.apply(rows, rows.detach(), variance)
    return half + (half - half.detach())  # either row of a pair has the same share in the gradient


class KernelSum(torch.autograd.Function):
    """Sum of ``exp(-|a - b|^2 / (2 variance))`` over all pairs of rows of two matrices.

    The gradient, ``(kernel @ right - rowsum * left) / variance``, is taken at once: the kernel is read while it is
    near and not kept, which halves the cost of automatic differentiation.
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, variance: Tensor) -> Tensor:
        scale = 0.5 / variance
        own, other = scale * left.square().sum(dim=1, keepdim=True), scale * right.square().sum(dim=1)
        kernel = torch.addmm(-other, 2.0 * scale * left, right.T).sub_(own).exp_()
        sums = kernel.sum(dim=1, keepdim=True)
        wanted = ctx.needs_input_grad
        ctx.of_left = (kernel @ right - sums * left) / variance if wanted[0] else None
        ctx.of_right = (kernel.T @ left - kernel.sum(dim=0).unsqueeze(1) * right) / variance if wanted[1] else None
        return sums.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        left = None if ctx.of_left is None else slope * ctx.of_left
        right = None if ctx.of_right is None else slope * ctx.of_right
        return left, right, None
