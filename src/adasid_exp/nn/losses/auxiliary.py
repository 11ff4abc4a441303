"""MMQ's two terms against collapsing experts (arXiv 2508.15281): auxiliary decoders and orthogonality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adasid_exp.functional.ranks import mse_over_ranks
from adasid_exp.nn.mlp import MLP


class AuxiliaryDecoders(nn.Module):
    """Every modality is rebuilt from its own slots alone; with weight 0 there are no decoders and no term.

    Args:
        dims: width of each modality that has slots, by name.
        code: width of a codeword.
        hidden: width of the decoders' hidden layer.
        weight: of this term in the total loss.
    """

    def __init__(self, *, dims: Mapping[str, int], code: int, hidden: int, weight: float) -> None:
        super().__init__()
        self.weight = weight
        built = dims if weight else {}
        self.decoders = nn.ModuleDict({name: MLP(widths=(code, hidden, dim)) for name, dim in built.items()})

    def forward(self, sums: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Term by name.

        Args:
            sums: weighted codewords of each modality's slots, ``[items, code]``.
            targets: standardised embeddings, ``[items, dim]``.
        """
        if not self.decoders:
            return {}
        errors = [mse_over_ranks(decoder(sums[name]), targets[name]) for name, decoder in self.decoders.items()]
        return {"auxiliary": self.weight * torch.stack(errors).sum()}


class Orthogonality(nn.Module):
    """Experts of one group are to look at their input from different sides; with weight 0 no term."""

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, groups: Sequence[Tensor]) -> dict[str, Tensor]:
        """Term by name, from the experts' first weight matrices, ``[experts, hidden, inputs]`` a group."""
        if not self.weight:
            return {}
        return {"orthogonality": self.weight * torch.stack([overlap(group) for group in groups]).sum()}


def overlap(experts: Tensor) -> Tensor:
    """``|V V^T - I|^2`` where the rows of V are the experts' flattened, normalised weights. Scalar."""
    rows = F.normalize(experts.flatten(1), dim=1)
    return (rows @ rows.T - torch.eye(len(rows), device=rows.device)).square().sum()
