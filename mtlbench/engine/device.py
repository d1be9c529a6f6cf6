"""The device that a run trains on."""

from __future__ import annotations

import torch

from mtlbench.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str) -> str:
    """The device kind that `name` stands for on this machine: `auto` is cuda, else mps, else cpu.

    Raises:
        UserError: there is no such device, or this machine lacks it.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if name not in there:
        raise UserError(f"no device is called {name!r}; there is {', '.join(DEVICES)}")
    if not there[name]:
        raise UserError(f"torch finds no {name} device on this machine; use --device auto or cpu")
    return name
