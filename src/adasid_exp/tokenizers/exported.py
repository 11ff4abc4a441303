"""A trained tokenizer as a graph of tensors alone: raw embeddings in, SIDs out, for runtimes without this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from adasid_exp.functional.sparsity import handover_weights
from adasid_exp.tokenizers.base import Tokenizer
from adasid_exp.types import ItemBatch

COUNT = "count"
"""The input that is no embedding: an item's interactions in the training part, 0 for a new item."""

OUTPUTS = ("codes", "weights")

EXAMPLE = 3
"""Items that a graph is traced with; it holds for any number."""


class ExportedTokenizer(nn.Module):
    """Raw embeddings of items to their SIDs, as `stage=append_sids` assigns them to new items.

    Clusters that were made equal are a matter of the catalogue they were made for: here an item gets the nearest.

    Args:
        tokenizer: trained; it is copied, so that nothing done here reaches it.
        inputs: what `forward` takes, in order: modalities and `COUNT`; the others are what no code depends on.
        mean: mean(R) of the published behavior weights.
    """

    def __init__(self, *, tokenizer: Tokenizer, inputs: Sequence[str], mean: float) -> None:
        super().__init__()
        self.tokenizer = deepcopy(tokenizer).cpu().eval().requires_grad_(False)
        self.inputs, self.mean = tuple(inputs), mean
        self.widths = {name: self.tokenizer.dims[name] for name in self.inputs if name != COUNT}
        self.balanced = self.tokenizer.forget_catalogue()
        """Whether the catalogue's own SIDs come of clusters that were made equal."""

    def forward(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        """Codes int64 ``[items, slots]``, ``PAD`` in unused slots, and their weights as published, float32."""
        encoded = self.tokenizer.encode(self.items(dict(zip(self.inputs, values, strict=True))))
        weights = handover_weights(encoded.codes, encoded.weights, self.tokenizer.layout.modalities, mean=self.mean)
        return encoded.codes, weights

    @cached_property
    def program(self) -> ExportedProgram:
        """The graph, its number of items left open."""
        example = example_inputs(self.inputs, self.widths)
        items = Dim("items", min=1)
        with torch.no_grad():  # else the graph is cut into parts with and without gradient
            return export(self, example, dynamic_shapes=(tuple({0: items} for _ in example),), strict=False)

    def given(self, items: ItemBatch) -> list[Tensor]:
        """What `forward` takes of a batch."""
        return [items.count if name == COUNT else items.features[name] for name in self.inputs]

    def items(self, given: Mapping[str, Tensor]) -> ItemBatch:
        """A batch; what is not given is 0."""
        first = next(iter(given.values()))
        features = {
            name: given[name] if name in given else first.new_zeros(first.shape[0], dim, dtype=torch.float32)
            for name, dim in self.tokenizer.dims.items()
        }
        count = given[COUNT] if COUNT in given else first.new_zeros(first.shape[0], dtype=torch.int64)
        return ItemBatch(index=torch.zeros_like(count), features=features, count=count)


def exported(*, tokenizer: Tokenizer, mean: float) -> ExportedTokenizer:
    """The module with the inputs that codes depend on.

    Args:
        tokenizer: trained.
        mean: mean(R) of the published behavior weights; 1 where no slot speaks of behavior.
    """
    every = ExportedTokenizer(tokenizer=tokenizer, inputs=[*tokenizer.modalities, COUNT], mean=mean)
    module = ExportedTokenizer(tokenizer=tokenizer, inputs=used_inputs(every), mean=mean)
    drop_untouched(module, every)
    return module


def example_inputs(inputs: Sequence[str], widths: Mapping[str, int]) -> tuple[Tensor, ...]:
    """Values of the right types and shapes."""
    return tuple(
        torch.ones(EXAMPLE, dtype=torch.int64) if name == COUNT else torch.ones(EXAMPLE, widths[name])
        for name in inputs
    )


def used_inputs(module: ExportedTokenizer) -> list[str]:
    """Which of a module's inputs any output depends on, in its order."""
    program = module.program
    reached, pending = set(), list(program.graph.output_node().all_input_nodes)
    while pending:
        node = pending.pop()
        if node not in reached:
            reached.add(node)
            pending += node.all_input_nodes
    names = {node.name for node in reached}
    return [name for name, own in zip(module.inputs, program.graph_signature.user_inputs, strict=True) if own in names]


def drop_untouched(module: ExportedTokenizer, twin: ExportedTokenizer) -> None:
    """Takes from a module the tensors that its twin's graph never reads: decoders, and what training looked up.

    A graph is saved with all tensors of its module, which may be as many as the catalogue has items.
    """
    signature = twin.program.graph_signature
    tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    for node in twin.program.graph.nodes:
        if node.op == "placeholder" and node.name in tensors and not node.users and node.meta["val"].dim():
            owner, _, name = tensors[node.name].rpartition(".")
            setattr(module.get_submodule(owner), name, None)  # a lone number stays: it is asked for its device


SEARCH = torch.ops.aten.searchsorted.Tensor
"""The one operator in use that ONNX lacks."""


def portable(program: ExportedProgram) -> ExportedProgram:
    """The same graph without operators that ONNX lacks."""
    lacking = any(node.target == SEARCH for node in program.graph.nodes)
    return program.run_decompositions({SEARCH: bisect}) if lacking else program


def bisect(
    reference: Tensor,
    values: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """`torch.searchsorted` of one sorted row by comparisons alone: int64 of the shape of ``values``.

    The answer's bits are found from the highest; every step looks at one entry for each value.

    Raises:
        ValueError: for options that no tokenizer uses.
    """
    if out_int32 or side or sorter is not None or reference.dim() != 1:
        raise ValueError("only a plain search in one sorted row is spelt out")
    size = reference.shape[0]
    found = torch.zeros_like(values, dtype=torch.int64)
    for bit in reversed(range(size.bit_length())):
        tried = found + 2**bit
        entry = reference[(tried - 1).clamp(max=size - 1)]
        before = entry <= values if right else entry < values
        found = torch.where((tried <= size) & before, tried, found)
    return found
