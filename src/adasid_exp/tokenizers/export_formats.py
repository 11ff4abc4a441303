"""Files that a graph can be shipped as, and the runtimes that read them."""

from __future__ import annotations

import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from adasid_exp.tokenizers.exported import OUTPUTS, ExportedTokenizer, portable

Runner = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]
"""Inputs to codes int64 ``[items, slots]`` and weights float32 ``[items, slots]``."""


class NotExportableError(Exception):
    """Why a tokenizer has no file of a format, in one line."""


class Format(ABC):
    """A way to ship a graph.

    Attributes:
        file: its name.
        reader: what is needed to run it.
        failure: what `write` raises where the format cannot hold the tokenizer.
    """

    file: str
    reader: str
    failure = NotExportableError

    @property
    @abstractmethod
    def version(self) -> str | None:
        """Of the library that writes it; None where it is not installed."""

    @abstractmethod
    def write(self, module: ExportedTokenizer) -> bytes:
        """The file. Raises NotExportableError."""

    @abstractmethod
    def read(self, data: bytes) -> Runner:
        """Runs a file with what its users have."""


class TorchProgram(Format):
    """``torch.export``: the operators that training used, so the codes are the same bit for bit."""

    file = "model.pt2"
    reader = "torch.export.load(FILE).module()"

    @property
    def version(self) -> str | None:
        return torch.__version__

    def write(self, module: ExportedTokenizer) -> bytes:
        stream = io.BytesIO()
        torch.export.save(module.program, stream)
        return stream.getvalue()

    def read(self, data: bytes) -> Runner:
        program = torch.export.load(io.BytesIO(data)).module()
        return lambda inputs: program(*inputs)


class Onnx(Format):
    """ONNX: other kernels, so a sum may be rounded otherwise and an item midway between two codewords may turn."""

    file = "model.onnx"
    reader = "onnxruntime.InferenceSession(FILE).run(None, INPUTS)"

    @property
    def version(self) -> str | None:
        return None if missing_packages() else metadata.version("onnx")

    def write(self, module: ExportedTokenizer) -> bytes:
        if missing := missing_packages():
            raise NotExportableError(f"{', '.join(missing)} not installed: pip install 'adasid-exp[onnx]'")
        try:
            with silence():
                program = torch.onnx.export(
                    portable(module.program),
                    input_names=list(module.inputs),
                    output_names=list(OUTPUTS),
                    dynamo=True,
                    verbose=False,
                )
        except torch.onnx.OnnxExporterError as error:
            raise NotExportableError(" ".join(str(error).split())[:300]) from error
        return program.model_proto.SerializeToString()  # type: ignore[union-attr]

    def read(self, data: bytes) -> Runner:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]

        def run(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            given: dict[str, np.ndarray] = {n: value.numpy() for n, value in zip(names, inputs, strict=True)}
            codes, weights = session.run(None, given)
            return torch.from_numpy(codes), torch.from_numpy(weights)

        return run


def missing_packages() -> list[str]:
    """What writing and checking ONNX lacks here."""
    return [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]


CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")


@contextmanager
def silence() -> Iterator[None]:
    """Without the exporter's account of its optimizations and of what else it could export."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
