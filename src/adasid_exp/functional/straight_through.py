"""The straight-through estimator."""

from __future__ import annotations

from torch import Tensor


def straight_through(latents: Tensor, vectors: Tensor) -> Tensor:
    """The value of ``vectors`` with the gradient of ``latents`` (Bengio et al. 2013; VQ-VAE), same shapes."""
    return latents + (vectors - latents).detach()
