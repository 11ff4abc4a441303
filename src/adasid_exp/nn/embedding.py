"""Embedding tables that start near zero."""

from __future__ import annotations

import torch
from torch import nn

INITIAL_STD = 0.01
"""An id the training part never shows keeps its first vector: near zero it says almost nothing."""


class EmbeddingTable(nn.Embedding):
    """``int64 [...] -> [..., dim]``: rows drawn from N(0, 0.01^2); row ``padding_idx`` is and stays zero."""

    def reset_parameters(self) -> None:
        """Draws the rows anew."""
        nn.init.normal_(self.weight, std=INITIAL_STD)
        if self.padding_idx is not None:
            with torch.no_grad():
                self.weight[self.padding_idx].zero_()
