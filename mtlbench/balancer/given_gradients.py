"""A scalar whose backward pass hands over gradients that were computed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mtlbench.errors import UserError


class Sum(NamedTuple):
    """The gradient `sum_i weights_i parts_i` of a parameter: `weights` `[n]`, and n tensors of the parameter's size.

    It is summed only when needed, so that a factor can be multiplied into the weights instead of the sum.
    """

    weights: Tensor
    parts: Sequence[Tensor]

    def times(self, factor: Tensor) -> Tensor:
        """The sum, multiplied by a scalar."""
        weights = (self.weights * factor).unbind()
        total = weights[0] * self.parts[0]
        for weight, part in zip(weights[1:], self.parts[1:], strict=True):
            total.addcmul_(weight, part)
        return total


def flat(tensor: Tensor) -> Tensor:
    """The real numbers of a tensor, one after another: of a complex one, real and imaginary parts in turn."""
    return (torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor).flatten()


def size_of(tensor: Tensor) -> int:
    """The number of real numbers of a tensor."""
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def _like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """A gradient, which may be flat, in the shape and dtype of its parameter."""
    if parameter.is_complex() and not gradient.is_complex():
        gradient = torch.view_as_complex(gradient.reshape(*parameter.shape, 2))
    return gradient.view_as(parameter).to(parameter)


def with_gradients(value: Tensor, gradients: Mapping[Tensor, Sum]) -> Tensor:
    """A scalar of this value whose backward pass adds these gradients, times its own, to those of the parameters."""
    return cast("Tensor", _WithGradients.apply(value.detach(), tuple(gradients.values()), *gradients))


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, gradients: tuple[Sum, ...], *parameters: Tensor) -> Tensor:
        cast("Any", ctx).pairs = list(zip(gradients, parameters, strict=True))
        return value.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():  # because of create_graph
            raise UserError("second derivatives are not available: this strategy's gradients have no graph")
        (factor,), pairs = grad_outputs, cast("Any", ctx).pairs
        return (None, None, *(_like(gradient.times(factor), parameter) for gradient, parameter in pairs))
