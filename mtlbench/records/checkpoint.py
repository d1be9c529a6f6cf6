"""The state of a stack after an epoch, as a file of tensors and history; reading it runs no code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtlbench import files
from mtlbench.records.history import History

HISTORY = TypeAdapter(History)


@dataclass(frozen=True)
class Checkpoint:
    """The named tensors of a trainer's state, on the host, and the history that led to it."""

    state: dict[str, Tensor]
    history: History


def write(path: Path, key: str, state: Mapping[str, Tensor], history: History) -> None:
    """Write a state and its history, atomically; `key` identifies the computation that led to them.

    Raises:
        OSError: the file cannot be written; an earlier checkpoint is kept.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    text = HISTORY.dump_json(history).decode()
    save_tensors(path, tensors, {"key": key, "history": text, "digest": _digest(tensors, text)})


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically.

    Raises:
        OSError: the file cannot be written; an earlier one is kept.
    """
    with files.replaced(path) as scratch:
        try:
            save_file(tensors, scratch, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def read(path: Path, key: str) -> Checkpoint | None:
    """The checkpoint at `path`; None if it is missing, damaged or has another key."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            if _digest(state, metadata["history"]) != metadata["digest"]:
                return None
            return Checkpoint(state, HISTORY.validate_json(metadata["history"]))
    except (OSError, SafetensorError, ValidationError, KeyError):
        return None


def _digest(state: Mapping[str, Tensor], history: str) -> str:
    """SHA-256 of state and history, which detects flipped bits."""
    digest = hashlib.sha256(history.encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(cast("Any", tensor.flatten().view(torch.uint8).numpy()))  # any array is a buffer
    return digest.hexdigest()
