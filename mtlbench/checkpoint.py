"""A stack's state at the end of an epoch, kept on disk: tensors, and what was recorded; reading it runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtlbench import files
from mtlbench.records import History

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
    with files.replaced(path) as scratch:
        try:
            save_file(tensors, scratch, {"key": key, "history": recorded})
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
            return Checkpoint(state, HISTORY.validate_json(kept["history"]))
    except (OSError, SafetensorError, ValidationError, KeyError):
        return None
