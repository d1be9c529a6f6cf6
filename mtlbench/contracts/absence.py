"""Steps without some of the tasks: a strategy is one for the tasks that are there, and the state of others is kept."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtlbench.contracts.strategy import Strategy
from mtlbench.errors import UserError


@contextmanager
def only(strategy: Strategy, tasks: Sequence[int]) -> Generator[None]:
    """Context manager in which a strategy has the shape (K, n) and the state of n of its tasks, in ascending order.

    Dimensions of size T of a parameter or buffer, except the first, belong to the tasks; what has none is common to
    all. On exit, the state, and gradients of parameters, are put back to their places: those of other tasks have not
    changed, and their gradients are 0. With all T tasks, the strategy is used as it is. If an exception is raised, the
    state of a strategy with absent tasks is as before.

    Raises:
        UserError: the strategy does not keep its state by task (`divisible` is False).
    """
    replicas, size = strategy.shape
    if len(tasks) == size:
        yield
        return
    if not strategy.divisible:
        name = getattr(strategy, "name", type(strategy).__name__)
        raise UserError(f"{name} does not keep its state by task: leave out batches without labels of some tasks")
    modules = list(strategy.modules())
    whole = [
        (module, name, tensor)
        for module in modules
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    ]
    shaped = [module for module in modules if isinstance(module, Strategy)]
    parts: list[Tensor] = []
    try:
        for module, name, tensor in whole:
            part = taken(tensor.detach(), tasks, size)
            setattr(module, name, nn.Parameter(part, tensor.requires_grad) if _is_parameter(tensor) else part)
        for module in shaped:
            module.shape = (replicas, len(tasks))
        yield
        parts = [getattr(module, name) for module, name, _ in whole]
    finally:
        for module, name, tensor in whole:
            setattr(module, name, tensor)
        for module in shaped:
            module.shape = (replicas, size)
    with torch.no_grad():
        for (_, _, tensor), part in zip(whole, parts, strict=True):
            put(tensor, part, tasks, size)
            if part.grad is not None:
                tensor.grad = put(torch.zeros_like(tensor), part.grad, tasks, size)


@contextmanager
def keeping_others(tensors: Iterable[Tensor], tasks: Sequence[int], size: int) -> Generator[None]:
    """Context manager after which entries of all but these tasks, of `size`, are as they were before."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors] if len(tasks) < size else []
    yield
    with torch.no_grad():
        for tensor, before in kept:
            part = taken(tensor, tasks, size)
            put(tensor.copy_(before), part, tasks, size)


def taken(tensor: Tensor, tasks: Sequence[int], size: int) -> Tensor:
    """A copy of the entries of some of T tasks, in the dimensions of `size` T, except the first."""
    part = tensor.clone()
    for dim in _dimensions(tensor, size):
        part = part.index_select(dim, torch.tensor(tasks, device=tensor.device))
    return part


def put(tensor: Tensor, part: Tensor, tasks: Sequence[int], size: int) -> Tensor:
    """Overwrite the entries of some of T tasks, the inverse of `taken`; returns the tensor."""
    return _put(tensor, part, torch.tensor(tasks, device=tensor.device), _dimensions(tensor, size))


def _put(tensor: Tensor, part: Tensor, tasks: Tensor, dimensions: Sequence[int]) -> Tensor:
    if not dimensions:
        return tensor.copy_(part)
    first, *further = dimensions
    rows = _put(tensor.index_select(first, tasks), part, tasks, further)
    return tensor.index_copy_(first, tasks, rows)


def _dimensions(tensor: Tensor, size: int) -> list[int]:
    return [dim for dim in range(1, tensor.dim()) if tensor.shape[dim] == size]


def _is_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)
