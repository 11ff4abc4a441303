"""How gradients pass the quantizer on their way from the decoder to weighted experts (ADA-SID, Eq. 11)."""

from __future__ import annotations

from torch import Tensor, nn


class PerExpert(nn.Module):
    """``sum a (z + sg(q - z))``: every expert is passed straight through before it is weighted.

    A weight's gradient meets the codeword that the decoder receives, which keeps the router's weights in bounds.
    """

    def forward(self, latents: Tensor, vectors: Tensor, straight: Tensor, weights: Tensor) -> Tensor:
        """Latents, codewords and their straight-through form ``[items, slots, code]``, weights ``[items, slots]``.

        Returns:
            ``[items, code]``.
        """
        return weighted_sum(straight, weights)


class Fused(nn.Module):
    """``z + sg(z_q - z)`` of the weighted sums, Eq. 11 to the letter: a weight's gradient meets the latent.

    Codewords get no gradient from the decoder, whatever the codebook's rule.
    """

    def forward(self, latents: Tensor, vectors: Tensor, straight: Tensor, weights: Tensor) -> Tensor:
        """As :meth:`PerExpert.forward`."""
        total = weighted_sum(latents, weights)
        return total + (weighted_sum(vectors, weights) - total).detach()


def weighted_sum(vectors: Tensor, weights: Tensor) -> Tensor:
    """``[items, slots, code]`` and ``[items, slots]`` to ``[items, code]``."""
    return (vectors * weights.unsqueeze(2)).sum(1)
