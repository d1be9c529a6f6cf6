"""Gradients of any network by autograd: hooks left out, sparse ones made dense, and refusals in one line."""

from __future__ import annotations

import typing
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtlbench.balancer.leaves import is_checkpointed, leaves
from mtlbench.errors import UserError

REENTRANT = "parameters within a reentrant checkpoint have no gradient per task: set use_reentrant=False"
DONATED = """this strategy differentiates losses or a trunk from torch.compile once per task: set \
torch._functorch.config.donated_buffer = False before compiling them"""


def gradients(value: Tensor, wanted: Sequence[Tensor], scale: float | None = None) -> Sequence[Tensor | None]:
    """Gradients of a scalar, dense; None for tensors that it does not depend on.

    `value` is multiplied by `scale` before the backward pass and gradients are divided by it after. Hooks on parameters
    do not run: they run in the user's `backward`, once, on the gradient that it adds.

    Raises:
        UserError: torch cannot differentiate this graph once per task.
    """
    if not (value.requires_grad and wanted and any(tensor.requires_grad for tensor in wanted)):
        return [None] * len(wanted)
    cotangent = torch.full_like(value, 1 if scale is None else scale)
    try:
        with _without_hooks(wanted):
            found = torch.autograd.grad(value, wanted, cotangent, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        problem = {"donated": DONATED, "use_reentrant": REENTRANT}
        known = [line for part, line in problem.items() if part in str(error)]
        if not known:
            raise
        raise UserError(known[0]) from None
    optional = typing.cast("Sequence[Tensor | None]", found)
    return [None if gradient is None else _dense(gradient, scale) for gradient in optional]


def independence(losses: Sequence[Tensor], wanted: Iterable[Tensor], shared: nn.Module) -> str:
    """Why no loss depends on one of the wanted parameters of a module, in one line."""
    parameters = [(name, parameter) for name, parameter in shared.named_parameters() if _is_in(parameter, wanted)]
    names = ", ".join(name for name, _ in parameters[:3]) + (", ..." if len(parameters) > 3 else "")
    reached = [leaf.shape for part in leaves(losses) for leaf in part]
    if is_checkpointed(losses):
        reason = REENTRANT
    elif all(parameter.shape in reached for _, parameter in parameters):
        reason = "they depend on others of these shapes. Pass the module that computes them, not a copy of it"
    else:
        reason = "is its output detached or computed within torch.no_grad(), or was the module replaced?"
    return f"no loss depends on a parameter of shared ({names}): {reason}"


def _is_in(tensor: Tensor, tensors: Iterable[Tensor]) -> bool:
    return any(tensor is other for other in tensors)


def _dense(gradient: Tensor, scale: float | None) -> Tensor:
    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
    return dense if scale is None else dense / scale


@contextmanager
def _without_hooks(tensors: Iterable[Tensor]) -> Generator[None]:
    """Context manager in which the hooks of leaves do not run."""
    hooked = [hooks for tensor in tensors if tensor.is_leaf and (hooks := tensor._backward_hooks)]
    kept = [hooks.copy() for hooks in hooked]
    for hooks in hooked:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in zip(hooked, kept, strict=True):
            hooks.update(before)
