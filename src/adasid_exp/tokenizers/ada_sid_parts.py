"""ADA-SID's mixture of shared and specific experts and what it says of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adasid_exp.nn.experts import ExpertGroup, Gates
from adasid_exp.nn.mlp import MLP
from adasid_exp.types import UserError

SHARED, CONTENT, BEHAVIOR = "shared", "content", "behavior"


def plan_slots(slots: Mapping[str, int], modalities: Sequence[str]) -> dict[str, int]:
    """Slots of every group in SID order: shared, the content modalities as listed, behavior.

    Args:
        slots: by group name; ``content`` speaks for every content modality that is not named itself.
        modalities: what the tokenizer reads.

    Raises:
        UserError: a group nobody has, a group without a number, or no behavior.
    """
    contents = [name for name in modalities if name != BEHAVIOR]
    if BEHAVIOR not in modalities or not contents:
        raise UserError(
            f"tokenizer=ada_sid needs the embedding 'behavior' and one of content, but has {', '.join(modalities)}; "
            "add what is missing to tokenizer.modalities or take another tokenizer"
        )
    known = {SHARED, CONTENT, BEHAVIOR, *contents}
    if strange := sorted(set(slots) - known):
        raise UserError(f"tokenizer.slots: no group {', '.join(strange)} here, only {', '.join(sorted(known))}")
    plan = {SHARED: slots.get(SHARED, 0)}
    plan |= {name: slots.get(name, slots.get(CONTENT, 0)) for name in contents}
    plan[BEHAVIOR] = slots.get(BEHAVIOR, 0)
    if plan[BEHAVIOR] < 1 or min(plan.values()) < 0:
        raise UserError(f"tokenizer.slots: {plan} must give behavior at least 1 slot and no group fewer than 0")
    return {group: count for group, count in plan.items() if count}


@dataclass(frozen=True, kw_only=True)
class Width:
    """Widths of the network: hidden layers, projections (d_h) and codewords (d_z)."""

    hidden: int
    latent: int
    code: int


@dataclass(frozen=True, kw_only=True)
class View:
    """A batch as ADA-SID sees it before quantization.

    Attributes:
        inputs: standardised embeddings ``[items, dim]`` by modality.
        richness: N_norm ``[items]``.
        projections: h ``[items, latent]`` by modality.
        latents: every slot's z, ``[items, slots, code]``.
        weights: 1, softmax gates and R of the slots, ``[items, slots]``.
        routed: R alone, ``[items, behavior slots]``.
    """

    inputs: dict[str, Tensor]
    richness: Tensor
    projections: dict[str, Tensor]
    latents: Tensor
    weights: Tensor
    routed: Tensor


class Mixture(nn.Module):
    """Projections, shared experts on all of them, specific experts on each raw modality (Eq. 2 to 6).

    Args:
        dims: width of each modality by name.
        plan: slots of each group, in SID order.
        width: widths of the layers.
    """

    def __init__(self, *, dims: Mapping[str, int], plan: Mapping[str, int], width: Width) -> None:
        super().__init__()
        inputs = {SHARED: width.latent * len(dims), **dims}
        self.projections = nn.ModuleDict(
            {name: MLP(widths=(dim, width.hidden, width.latent)) for name, dim in dims.items()}
        )
        self.experts = nn.ModuleDict(
            {
                group: ExpertGroup(dim=inputs[group], hidden=width.hidden, code=width.code, experts=count)
                for group, count in plan.items()
            }
        )
        self.gates = nn.ModuleDict(
            {
                group: Gates(dim=inputs[group], hidden=width.latent, experts=count)
                for group, count in plan.items()
                if group not in (SHARED, BEHAVIOR)
            }
        )

    def project(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """h of every modality, ``[items, latent]``."""
        return {name: projection(inputs[name]) for name, projection in self.projections.items()}

    def latents(self, inputs: Mapping[str, Tensor], projections: Mapping[str, Tensor]) -> Tensor:
        """z of every slot, ``[items, slots, code]``."""
        seen = {SHARED: torch.cat(tuple(projections.values()), 1), **inputs}
        return torch.cat([experts(seen[group]) for group, experts in self.experts.items()], 1)

    def content_weights(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Weights of the shared slots (1) and of each content group (gates), ``[items, slots]`` each."""
        rows = next(iter(inputs.values()))
        shared = rows.new_ones(rows.shape[0], self.shared_slots)
        return [shared, *(gates(inputs[group]) for group, gates in self.gates.items())]

    @property
    def shared_slots(self) -> int:
        """How many slots all modalities share."""
        return self.experts[SHARED].experts if SHARED in self.experts else 0  # type: ignore[return-value]

    def first_weights(self) -> list[Tensor]:
        """First weight matrices of every group, ``[experts, hidden, inputs]`` each."""
        return [group.first_weights() for group in self.experts.values()]  # type: ignore[operator]
