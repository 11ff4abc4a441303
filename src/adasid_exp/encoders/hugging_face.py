"""Finding and loading Hugging Face models, with one clear line where that fails."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

from adasid_exp.encoders.base import digest
from adasid_exp.types import UserError

_PARTS = ("*.safetensors", "*.bin", "*.json", "*.txt", "*.model")


def optional(module: str, extra: str) -> ModuleType:
    """Import a library that only an extra brings; ``UserError`` with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise UserError(f"this encoder needs {package}: pip install 'adasid-exp[{extra}]'") from error


def identity(model: str, revision: str) -> dict[str, object]:
    """What tells one set of weights from another: a folder's digest, or a hub name with its commit."""
    if Path(model).is_dir():
        return {"weights": digest(path for part in _PARTS for path in Path(model).glob(part))}
    config = load("AutoConfig", model, revision)
    return {"model": model, "commit": getattr(config, "_commit_hash", None) or revision}


def load(auto: str, model: str, revision: str, **options: Any) -> Any:
    """``transformers.<auto>.from_pretrained`` of a folder or a hub name; ``UserError`` when it is not there.

    The cache is asked before the network, so that a model once fetched works offline and does not change.
    """
    transformers = optional("transformers", "text")
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries: our one line says it
    source = getattr(transformers, auto).from_pretrained
    try:
        return source(model, revision=revision, local_files_only=True, **options)
    except OSError as error:
        if Path(model).is_dir():
            raise _unloadable(model, revision, error) from error
    except (ValueError, ImportError) as error:
        raise _unloadable(model, revision, error) from error
    try:
        return source(model, revision=revision, **options)
    except (OSError, ValueError, ImportError) as error:
        raise _unloadable(model, revision, error) from error


def _unloadable(model: str, revision: str, error: Exception) -> UserError:
    place = f"the model folder {model}" if Path(model).is_dir() else f"the model '{model}' (revision {revision})"
    reason = str(error).strip().partition("\n")[0].rstrip(".: ")
    return UserError(f"cannot load {place}: {reason}; give a folder that holds it, or a hub name in reach")
