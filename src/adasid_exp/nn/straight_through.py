"""How gradients pass the quantizer on their way from the decoder to weighted experts (ADA-SID, Eq. 11)."""

from __future__ import annotations

from torch import Tensor, nn

from adasid_exp.functional.straight_through import straight_through
from adasid_exp.nn.quantizers.codebook import Quantized


class PerExpert(nn.Module):
    """``sum a (z + sg(q - z))``: every expert is passed straight through before it is weighted.

    A weight's gradient meets the codeword that the decoder receives, which keeps R in bounds.
    """

    def forward(self, quantized: Quantized, weights: Tensor) -> Tensor:
        """Slots and their weights ``[items, slots]`` to the decoder's input ``[items, code]``."""
        return weighted_sum(quantized.straight, weights)


class Fused(nn.Module):
    """``z + sg(z_q - z)`` of the weighted sums, Eq. 11 to the letter: a weight's gradient meets the latent.

    Codewords get no gradient from the decoder, whatever the codebook's rule.
    """

    def forward(self, quantized: Quantized, weights: Tensor) -> Tensor:
        """Slots and their weights ``[items, slots]`` to the decoder's input ``[items, code]``."""
        latent = weighted_sum(quantized.latents, weights)
        return straight_through(latent, weighted_sum(quantized.vectors, weights))


def weighted_sum(vectors: Tensor, weights: Tensor) -> Tensor:
    """``[items, slots, code]`` and ``[items, slots]`` to ``[items, code]``."""
    return (vectors * weights.unsqueeze(2)).sum(1)
