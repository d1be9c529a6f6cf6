"""A step's signals for any network, by torch's autograd: one backward pass per task, made when it is asked for.

What the stacked engine computes by its own products (`mtlbench.gradients`) is here asked of autograd, for a single
replica, K = 1.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.autograd.graph import Node, get_gradient_edge

from mtlbench.errors import UserError
from mtlbench.strategy import Heads, Step


class GradientOverflowError(Exception):
    """A scaled task gradient is not finite: the scale is too large for half precision."""


class LossGradients:
    """The gradients of one step's losses.

    Args:
        losses: T scalars with their graphs, which are kept.
        shared: the parameters that all tasks share and that require grad; P is their size.
        last: those of the last shared layer.
        representation: the shared representation `[B, ...]` with its graph, if the caller has it.
        further: makes the losses of a further batch, if the caller can.
        dtype: of what is returned; at least float32, whatever precision the losses are made in.
        scale: the losses are multiplied by it for every backward pass and the gradients divided by it, so that half
            precision holds them; None is no scaling.
    """

    def __init__(
        self,
        losses: Sequence[Tensor],
        *,
        shared: Sequence[Tensor],
        last: Sequence[Tensor],
        representation: Tensor | None,
        further: Callable[[], Sequence[Tensor]] | None,
        dtype: torch.dtype,
        scale: float | None,
    ) -> None:
        self._losses, self._shared, self._last = losses, shared, last
        self._representation, self._further = representation, further
        self._dtype, self._scale = dtype, scale
        self._found: Tensor | None = None

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products of the task gradients over the shared parameters, or the last layer's, `[1, T, T]`."""
        if last and self._shared and not self._last:
            raise UserError("no last shared layer was found: name it, Balancer(..., last=MODULE)")
        jacobian = self._rows(self._losses, self._last) if last else self._jacobian()
        return (jacobian @ jacobian.mT).unsqueeze(0)

    def jacobian(self) -> Tensor:
        """The task gradients over the shared parameters, one after the other, `[1, T, P]`."""
        return self._jacobian().clone().unsqueeze(0)

    def independent_gramian(self) -> Tensor:
        """Inner products between the task gradients of two further batches, `[1, T, T]`."""
        if self._further is None:
            raise UserError(
                "this strategy looks at two further batches in every step: call it with a function that returns the "
                "losses of another batch each time, balance(losses, further=FUNCTION)"
            )
        one, other = (self._rows(self._further(), self._shared) for _ in range(2))
        return (one @ other.mT).unsqueeze(0)

    def representation_gradients(self) -> Tensor:
        """Gradients of the losses by the representation, `[1, T, B, F]`, 0 where the representation is."""
        seen = self._given_representation()
        rows = self._rows(self._losses, [seen]).view(len(self._losses), len(seen), -1)
        return (rows * (seen.detach().flatten(1) != 0)).unsqueeze(0)

    def minimised(self, weights: Tensor, heads: Heads, step: Step) -> Tensor:
        """A scalar of value `sum_t weights_t L_t` whose backward pass gives every parameter its gradient.

        The shared ones get that of the sum, or what the strategy chose in its place; those of head t their share of the
        sum (`weighted`), or the gradient of L_t (`own`). Where that is the gradient of the sum and nothing has been
        differentiated over all shared parameters yet, it is the sum itself with its graph. Else the gradients are
        made here, those of the shared parameters from what the strategy has already seen, and given back as they are.

        Args:
            weights: `[T]`.
            heads: the strategy's.
            step: what the strategy has seen, with the direction it chose.
        """
        losses = torch.stack([loss.to(self._dtype) for loss in self._losses])
        total = (weights * losses).sum()
        directed = step.direction is not None or step.representation_direction is not None
        if heads == "weighted" and self._found is None and not directed:
            return total
        self._check_shared()
        reached = {id(leaf): leaf for leaf in leaves(self._losses)}
        among_shared = {id(parameter) for parameter in self._shared}
        parameters = [leaf for key, leaf in reached.items() if key not in among_shared]
        gradients = self._gradients(total if heads == "weighted" else losses.sum(), parameters)
        for parameter, gradient in zip(self._shared, self._shared_gradients(weights, total, step), strict=True):
            # One that no loss depends on keeps having no gradient, unless a direction speaks of it.
            if step.direction is not None or id(parameter) in reached:
                parameters.append(parameter)
                gradients.append(gradient)
        return with_gradients(total, parameters, gradients)

    def _shared_gradients(self, weights: Tensor, total: Tensor, step: Step) -> list[Tensor]:
        if step.direction is not None:
            return self._split(step.direction[0])
        if step.representation_direction is not None:
            seen = self._given_representation()
            cotangent = step.representation_direction.view_as(seen).to(seen.dtype)
            return self._gradients(seen, self._shared, cotangent)
        if self._found is not None:
            return self._split(weights @ self._found)
        return self._gradients(total, self._shared)

    def _given_representation(self) -> Tensor:
        if self._representation is None:
            raise UserError(
                "this strategy looks at the shared representation, the trunk's output behind its ReLU: pass it beside "
                "the losses, balance(losses, features)"
            )
        return self._representation

    def _check_shared(self) -> None:
        if not self._shared:
            raise UserError(
                "this strategy treats what the tasks share apart from their heads: name the module that they share "
                "and that is trained, Balancer(..., shared=model.trunk)"
            )

    def _jacobian(self) -> Tensor:
        if self._found is None:
            self._found = self._rows(self._losses, self._shared)
        return self._found

    def _rows(self, losses: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """The gradient of each loss, flat, `[T, N]`."""
        self._check_shared()
        gradients = [self._gradients(loss, wanted) for loss in losses]
        rows = torch.stack([torch.cat([part.flatten().to(self._dtype) for part in row]) for row in gradients])
        if self._scale is not None and not bool(rows.isfinite().all()):
            raise GradientOverflowError
        return rows

    def _gradients(self, value: Tensor, wanted: Sequence[Tensor], cotangent: Tensor | None = None) -> list[Tensor]:
        """Gradients of `(cotangent * value).sum()`, 0 where it does not depend on what is wanted."""
        if not (value.requires_grad and wanted):
            return [torch.zeros_like(tensor) for tensor in wanted]
        cotangent = torch.ones_like(value) if cotangent is None else cotangent
        if self._scale is not None:
            cotangent = cotangent * self._scale
        found = torch.autograd.grad(value, wanted, cotangent, retain_graph=True, materialize_grads=True)
        return list(found) if self._scale is None else [gradient / self._scale for gradient in found]

    def _split(self, flat: Tensor) -> list[Tensor]:
        parts = flat.split([parameter.numel() for parameter in self._shared])
        return [part.view_as(parameter).to(parameter) for part, parameter in zip(parts, self._shared, strict=True)]


def leaves(losses: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that a backward pass from these losses leaves gradients in: parameters, as a rule."""
    ahead: list[Node | None] = [get_gradient_edge(loss).node for loss in losses if loss.requires_grad]
    seen: set[Node] = set()
    found: list[Tensor] = []
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            found.append(typing.cast("typing.Any", node).variable)
        ahead += [before for before, _ in node.next_functions]
    return found


def last_layer(shared: nn.Module) -> nn.Module | None:
    """The last module, in the order of registration, that has a trained weight of two dimensions or more.

    Normalisation layers have none, and are passed over.
    """
    found = None
    for module in shared.modules():
        if any(parameter.requires_grad and parameter.dim() > 1 for parameter in module.parameters(recurse=False)):
            found = module
    return found


def with_gradients(value: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """A scalar of this value whose backward pass adds these gradients, times its own, to the parameters'."""
    return typing.cast("Tensor", _WithGradients.apply(value.detach(), tuple(gradients), *parameters))


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, gradients: tuple[Tensor, ...], *_: Tensor) -> Tensor:
        typing.cast("typing.Any", ctx).gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (factor,) = grad_outputs
        return (None, None, *(gradient * factor for gradient in typing.cast("typing.Any", ctx).gradients))
