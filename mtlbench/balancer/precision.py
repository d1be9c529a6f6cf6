"""The dtype that a Balancer computes in: never below float32, whatever is around it."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import reduce

import torch


def widest(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The real dtype, at least float32, that holds numbers of all these."""
    return reduce(torch.promote_types, dtypes, torch.float32).to_real()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Generator[None]:
    """Context manager in which tensors are created in this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def autocasts(device: str) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """Context managers for the caller's autocast and for none."""
    if not torch.amp.is_autocast_available(device):  # as for meta
        return nullcontext(), nullcontext()
    callers = torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
    return callers, torch.autocast(device, enabled=False)
