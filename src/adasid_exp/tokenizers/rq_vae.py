"""RQ-VAE: an autoencoder whose latent is quantized level by level (TIGER, arXiv 2305.05065)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.tokenizers.residual import ResidualTokenizer


class RqVae(ResidualTokenizer):
    """Embeddings in (side by side when there are several), one code a level out, coarse to fine.

    Args:
        dims: width of every embedding the data has, by name.
        modalities: the embeddings that are read and reconstructed.
        length: levels, which is the length of a SID.
        hidden, latent, size, codebook, fill_empty: as in `ResidualTokenizer`.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        modalities: Sequence[str],
        hidden: Sequence[int],
        latent: int,
        length: int,
        size: int,
        codebook: Callable[..., Codebook],
        fill_empty: bool,
    ) -> None:
        super().__init__(
            dims=dims,
            modalities=modalities,
            branches=[modalities],
            levels=[length],
            hidden=hidden,
            latent=latent,
            size=size,
            codebook=codebook,
            fill_empty=fill_empty,
        )
