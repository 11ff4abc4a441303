"""Plain versions of the peers' algorithms, for those that no package index carries."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from vector_quantize_pytorch import ResidualVQ


def rpg_exact(log_probs: Tensor, tokens: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """RPG's exact path: int64 tokens expanded over users, gather, mean, topk.

    Args:
        log_probs: ``[users, slots, codes]``.
        tokens: int64 ``[items, slots]``, numbered through all slots.
        k: length of the lists.
    """
    users, items = len(log_probs), len(tokens)
    flat = log_probs.flatten(1).unsqueeze(1).expand(users, items, -1)
    scores = flat.gather(2, tokens.unsqueeze(0).expand(users, -1, -1)).mean(2)
    best = scores.topk(k)
    return best.indices, best.values


def brute_force(log_probs: Tensor, codes: Tensor, k: int) -> np.ndarray:
    """The best k items by (score descending, item ascending), int64 ``[users, k]``: score all, sort all."""
    scores = torch.zeros(len(log_probs), len(codes))
    for slot in range(codes.shape[1]):
        scores += log_probs[:, slot, codes[:, slot]]
    order = np.argsort(-scores.numpy(), axis=1, kind="stable")
    return order[:, :k]


class LibraryRqVae(nn.Module):
    """The same RQ-VAE around vector-quantize-pytorch's ResidualVQ (moving averages, its defaults)."""

    def __init__(self, *, widths: tuple[int, ...], levels: int, size: int) -> None:
        super().__init__()
        self.encoder, self.decoder = _mlp(widths), _mlp(widths[::-1])
        self.quantizer = ResidualVQ(dim=widths[-1], num_quantizers=levels, codebook_size=size)

    def loss(self, inputs: Tensor) -> Tensor:
        quantized, _, losses = self.quantizer(self.encoder(inputs).unsqueeze(1))
        return F.mse_loss(self.decoder(quantized.squeeze(1)), inputs) + losses.sum()


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PmixerSasRec(nn.Module):
    """SASRec as pmixer/SASRec.pytorch writes it: left padding, all steps, one negative."""

    def __init__(self, *, items: int, dim: int, steps: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.item = nn.Embedding(items + 1, dim, padding_idx=0)
        self.position = nn.Embedding(steps + 1, dim, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=1e-8) for _ in range(2 * blocks))
        self.attention = nn.ModuleList(nn.MultiheadAttention(dim, heads, dropout) for _ in range(blocks))
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, dim, 1) for _ in range(2 * blocks))
        self.last = nn.LayerNorm(dim, eps=1e-8)

    def states(self, history: np.ndarray) -> Tensor:
        states = self.item(torch.LongTensor(history)) * self.item.embedding_dim**0.5
        place = np.tile(np.arange(1, history.shape[1] + 1), [history.shape[0], 1]) * (history != 0)
        states = self.dropout(states + self.position(torch.LongTensor(place)))
        causal = ~torch.tril(torch.ones(history.shape[1], history.shape[1], dtype=torch.bool))
        for block, attention in enumerate(self.attention):
            states = states.transpose(0, 1)
            queries = self.norms[2 * block](states)
            mixed, _ = attention(queries, states, states, attn_mask=causal)
            states = self.norms[2 * block + 1]((queries + mixed).transpose(0, 1))
            states = self._feed_forward(states, block)
        return self.last(states)

    def _feed_forward(self, states: Tensor, block: int) -> Tensor:
        first, second = self.convolutions[2 * block], self.convolutions[2 * block + 1]
        hidden = torch.relu(self.dropout(first(states.transpose(1, 2))))
        return self.dropout(second(hidden)).transpose(1, 2) + states

    def loss(self, history: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> Tensor:
        states = self.states(history)
        wanted = (states * self.item(torch.LongTensor(positive))).sum(-1)
        other = (states * self.item(torch.LongTensor(negative))).sum(-1)
        valid = np.where(positive != 0)
        return F.binary_cross_entropy_with_logits(
            wanted[valid], torch.ones(wanted.shape)[valid]
        ) + F.binary_cross_entropy_with_logits(other[valid], torch.zeros(other.shape)[valid])


def pmixer_batch(sequences: list[np.ndarray], items: int, steps: int, random: np.random.Generator) -> list[np.ndarray]:
    """What pmixer's sampler makes of users: history, positive, negative, int64 ``[users, steps]``, from 1."""
    history, positive, negative = (np.zeros((len(sequences), steps), dtype=np.int64) for _ in range(3))
    for row, sequence in enumerate(sequences):
        seen, following, place = set(sequence.tolist()), sequence[-1], steps - 1
        for item in sequence[:-1][::-1][:steps]:
            history[row, place], positive[row, place] = item, following
            draw = random.integers(1, items + 1)
            while int(draw) in seen:
                draw = random.integers(1, items + 1)
            negative[row, place] = draw
            following, place = item, place - 1
    return [history, positive, negative]


def fuxictr_gauc(user: np.ndarray, score: np.ndarray, label: np.ndarray) -> float:
    """FuxiCTR's gAUC: scikit-learn's AUC user by user, weighted by rows, without one-class users."""
    order = np.argsort(user, kind="stable")
    borders = np.flatnonzero(np.diff(user[order])) + 1
    total = weight = 0.0
    for rows in np.split(order, borders):
        if 0 < label[rows].sum() < len(rows):
            total += len(rows) * roc_auc_score(label[rows], score[rows])
            weight += len(rows)
    return total / weight


def json_line_loop(path: Path) -> list[tuple[str, str, int, float]]:
    """Reviews as most peers read them."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = map(json.loads, file)
        return [(row["reviewerID"], row["asin"], row["unixReviewTime"], row["overall"]) for row in rows]


def literal_eval_loop(path: Path) -> list[dict]:
    """Metadata read without running foreign code, one line at a time."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [ast.literal_eval(line) for line in file]
