"""A causal transformer over short, right-padded histories."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adasid_exp.nn.dropout import Dropout


class CausalBlock(nn.Module):
    """Pre-norm self-attention and a point-wise feed-forward net, each with a residual.

    With padding on the right the causal mask alone keeps valid steps clear of padding. Dropout falls on the
    outputs of the two parts and not on the attention's weights, so that the fused attention stays usable.

    Args:
        dim: width of a state.
        heads: attention heads; divides ``dim``.
        hidden: width inside the feed-forward net.
        dropout: chance of a zero.
    """

    def __init__(self, *, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide the width {dim}")
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.feed_norm = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim))
        self.dropout = Dropout(chance=dropout)

    def forward(self, states: Tensor) -> Tensor:
        """States ``[users, steps, dim]`` to the same."""
        states = states + self.dropout(self.attention_out(self._attend(self.attention_norm(states))))
        return states + self.dropout(self.feed(self.feed_norm(states)))

    def _attend(self, states: Tensor) -> Tensor:
        users, steps, dim = states.shape
        parts = self.qkv(states).view(users, steps, 3, self.heads, dim // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).reshape(users, steps, dim)


class CausalTransformer(nn.Module):
    """Learned positions, dropout, blocks and a final norm.

    Args:
        dim: width of a state.
        blocks: how many `CausalBlock`.
        heads: attention heads of each.
        hidden: width inside their feed-forward nets.
        steps: longest history.
        dropout: chance of a zero.
        init_std: spread of the normal that weight matrices and positions start from; biases start at zero.
    """

    def __init__(
        self, *, dim: int, blocks: int, heads: int, hidden: int, steps: int, dropout: float, init_std: float
    ) -> None:
        super().__init__()
        self.dim = dim
        self.positions = nn.Parameter(torch.empty(steps, dim).normal_(std=init_std))
        self.dropout = Dropout(chance=dropout)
        self.blocks = nn.Sequential(
            *(CausalBlock(dim=dim, heads=heads, hidden=hidden, dropout=dropout) for _ in range(blocks))
        )
        self.norm = nn.LayerNorm(dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=init_std)
                nn.init.zeros_(module.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs ``[users, steps, dim]`` to states of the same shape; step t sees steps up to t."""
        if inputs.shape[1] > len(self.positions):
            raise ValueError(f"{inputs.shape[1]} steps are more than the {len(self.positions)} positions learned")
        return self.norm(self.blocks(self.dropout(inputs + self.positions[: inputs.shape[1]])))
