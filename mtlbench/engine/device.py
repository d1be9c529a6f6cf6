"""The device that a run trains on."""

from __future__ import annotations

import torch

from mtlbench.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str) -> str:
    """The kind of device that `name` selects on this machine; `auto` prefers cuda, then mps, then cpu.

    Raises:
        UserError: the device is unknown, or this machine does not have it.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(kind for kind, present in available.items() if present)
    if name not in available:
        raise UserError(f"device must be one of {', '.join(DEVICES)}; found {name!r}")
    if not available[name]:
        raise UserError(f"torch finds no {name} device on this machine; use --device auto or cpu")
    return name
