"""A scalar whose backward pass hands over gradients that were made before."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mtlbench.errors import UserError


class Sum(typing.NamedTuple):
    """The gradient `sum_i weights_i parts_i` of a parameter, of `weights` `[n]` and n tensors of the parameter's size.

    It is summed when it is asked for: what it would be multiplied with then is multiplied into the weights.
    """

    weights: Tensor
    parts: Sequence[Tensor]

    def times(self, factor: Tensor) -> Tensor:
        """Its product with a scalar."""
        weights = (self.weights * factor).unbind()
        total = weights[0] * self.parts[0]
        for weight, part in zip(weights[1:], self.parts[1:], strict=True):
            total.addcmul_(weight, part)
        return total


def with_gradients(value: Tensor, gradients: Mapping[Tensor, Sum]) -> Tensor:
    """A scalar of this value whose backward pass adds these gradients, times its own, to the parameters'."""
    return typing.cast("Tensor", _WithGradients.apply(value.detach(), tuple(gradients.values()), *gradients))


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, gradients: tuple[Sum, ...], *parameters: Tensor) -> Tensor:
        typing.cast("typing.Any", ctx).gradients = gradients
        typing.cast("typing.Any", ctx).parameters = parameters
        return value.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():  # by create_graph
            raise UserError("this strategy gives gradients without a graph, so there are no second derivatives of it")
        (factor,) = grad_outputs
        kept = typing.cast("typing.Any", ctx)
        made = zip(kept.gradients, kept.parameters, strict=True)
        return (None, None, *(gradient.times(factor).view_as(parameter).to(parameter) for gradient, parameter in made))
