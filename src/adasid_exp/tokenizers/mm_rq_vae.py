"""MM-RQ-VAE: an RQ-VAE a modality, side by side, aligned (MME-SID, arXiv 2509.02017) or not (RQ-VAE++)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from adasid_exp.nn.losses.matching import ContrastiveMatching, MatchedReconstruction, MmdMatching, NoMatching
from adasid_exp.nn.quantizers.codebook import Codebook
from adasid_exp.nn.residual_autoencoder import Coded
from adasid_exp.nn.standardize import BEHAVIOR
from adasid_exp.tokenizers.residual import ResidualTokenizer
from adasid_exp.types import ItemBatch, UserError


class MmRqVae(ResidualTokenizer):
    """One autoencoder a modality; a SID is behavior's codes, then those of each content modality.

    Args:
        dims: width of every embedding the data has, by name.
        modalities: which of them are read, content in SID order; None for all. ``behavior`` must be among them.
        length: of a SID, shared out as evenly as can be; or each modality's codes by name.
        reconstruction: how far the decoded is from the embeddings.
        alignment: what behavior and content are to have in common.
        hidden, latent, size, codebook, fill_empty: as in `ResidualTokenizer`.

    Raises:
        UserError: when ``modalities`` lacks behavior, or ``length`` leaves one without a code.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str] | None,
        dims: Mapping[str, int],
        hidden: Sequence[int],
        latent: int,
        codebook: Callable[..., Codebook],
        size: int,
        length: int | Mapping[str, int],
        fill_empty: bool,
        reconstruction: MatchedReconstruction,
        alignment: ContrastiveMatching | MmdMatching | NoMatching,
    ) -> None:
        names = behavior_first(tuple(dims) if modalities is None else modalities)
        super().__init__(
            modalities=names,
            dims=dims,
            branches=[[name] for name in names],
            levels=share_length(length, names),
            codebook=codebook,
            size=size,
            hidden=hidden,
            latent=latent,
            fill_empty=fill_empty,
        )
        self.reconstruction, self.alignment = reconstruction, alignment

    def losses(self, items: ItemBatch) -> dict[str, Tensor]:
        targets = self.targets(items)
        coded = self.coded(targets)
        behavior, *contents = [part.straight for part in coded]
        return self.reconstruction_terms(coded, targets) | self.alignment(behavior, contents)

    def reconstruction_terms(self, coded: Sequence[Coded], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the family counts, by the weights of ``reconstruction``: the mean over modalities."""
        terms = super().reconstruction_terms(coded, targets)
        decoded = self.split([part.decoded for part in coded])
        return self.reconstruction(terms.pop("reconstruction"), decoded, targets) | terms


def behavior_first(names: Sequence[str]) -> list[str]:
    """Behavior, then the others in their order. Raises UserError without behavior."""
    if BEHAVIOR not in names:
        raise UserError(
            f"tokenizer.modalities={list(names)}: behavior is missing, with which content is aligned;"
            " add it, or take tokenizer=rq_vae for content alone"
        )
    return [BEHAVIOR, *(name for name in names if name != BEHAVIOR)]


def share_length(length: int | Mapping[str, int], names: Sequence[str]) -> list[int]:
    """Codes of each modality: what ``length`` says by name, or as even as can be, the first ones taking the rest.

    Raises:
        UserError: for names that are not those of the modalities, or a modality without a code.
    """
    if isinstance(length, int):
        each, rest = divmod(length, len(names))
        length = {name: each + (place < rest) for place, name in enumerate(names)}
    if set(length) != set(names) or min(length.values()) < 1:
        raise UserError(
            f"tokenizer.length={dict(length)}: every modality ({', '.join(names)}) needs a code of its own and no"
            " other name may stand there; raise tokenizer.length or read fewer tokenizer.modalities"
        )
    return [length[name] for name in names]
