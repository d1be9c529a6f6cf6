"""A stack's state at the end of an epoch, kept on disk: tensors, and what was recorded; reading it runs no code."""

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
    """The state of a trainer by name, on the host, and the history that led to it."""

    state: dict[str, Tensor]
    history: History


def write(path: Path, key: str, state: Mapping[str, Tensor], history: History) -> None:
    """Keep a state and its history under a key that stands for all that led to them.

    Raises:
        OSError: it cannot be written; an earlier checkpoint is still there then.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    recorded = HISTORY.dump_json(history).decode()
    about = {"key": key, "history": recorded, "digest": _digest(tensors, recorded)}
    with files.replaced(path) as scratch:
        try:
            save_file(tensors, scratch, about)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def read(path: Path, key: str) -> Checkpoint | None:
    """The checkpoint at `path`; None if there is none, it is damaged, or it was made under another key."""
    try:
        with safe_open(path, framework="pt") as file:
            kept = file.metadata() or {}
            if kept.get("key") != key:
                return None
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            if _digest(state, kept["history"]) != kept["digest"]:
                return None
            return Checkpoint(state, HISTORY.validate_json(kept["history"]))
    except (OSError, SafetensorError, ValidationError, KeyError):
        return None


def _digest(state: Mapping[str, Tensor], history: str) -> str:
    """SHA-256 of all that is kept: a number with a wrong bit looks like any other."""
    found = hashlib.sha256(history.encode())
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(cast("Any", tensor.flatten().view(torch.uint8).numpy()))  # any array is a buffer
    return found.hexdigest()
