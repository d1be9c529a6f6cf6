"""Steps with given losses and gradients, and what a strategy returns for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench.contracts.strategy import Step, Strategy, effective_weights
from mtlbench.solvers.linalg import inner_products


class GivenGradients:
    """Signals of a step made from a given Jacobian `[K, T, P]`.

    The representation has one sample and P features, and its gradients are the Jacobian. The Jacobians of two further
    batches are this one and twice this one, unless `further` gives them.
    """

    def __init__(self, jacobian: Tensor, further: tuple[Tensor, Tensor] | None = None) -> None:
        self._jacobian = jacobian
        self._further = further or (jacobian, 2 * jacobian)

    def gramian(self, *, last: bool = False) -> Tensor:
        """`[K, T, T]`, the same for the last layer."""
        return inner_products(self._jacobian, self._jacobian)

    def jacobian(self) -> Tensor:
        """A copy, `[K, T, P]`."""
        return self._jacobian.clone()

    def independent_gramian(self) -> Tensor:
        """`[K, T, T]`, from the two further batches."""
        one, other = self._further
        return inner_products(one, other)

    def representation_gradients(self) -> Tensor:
        """`[K, T, 1, P]`."""
        return self._jacobian.unsqueeze(2)


class PermutedStep(Step):
    """A step with permuted tasks: random numbers drawn for a task are permuted along with it."""

    order: Sequence[int]

    def rand(self, *size: int) -> Tensor:
        """The step's numbers, permuted in each dimension of size T."""
        return permuted(super().rand(*size), self.order)


def permuted(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """The tensor for permuted tasks: all dimensions of size T are permuted, except the first, which is K."""
    for dim in range(1, tensor.dim()):
        if tensor.shape[dim] == len(order):
            tensor = tensor.index_select(dim, torch.tensor(list(order)))
    return tensor


def given_step(
    losses: Tensor,
    jacobian: Tensor | None = None,
    *,
    index: int = 0,
    epoch: int = 0,
    seeds: Sequence[int] | None = None,
    counts: Tensor | None = None,
    order: Sequence[int] | None = None,
    further: tuple[Tensor, Tensor] | None = None,
) -> Step:
    """A step with losses `[K, T]` and task gradients `jacobian` `[K, T, P]`, which are zero by default.

    `index` is the number of updates before it, `counts` `[K, T]` that of each task, `index` by default; `epoch` starts
    from 0, and the K `seeds` are 0 to K - 1 by default.
    `order` is that of the tasks, if losses and gradients are permuted: random numbers are then permuted likewise.
    `further` holds the Jacobians of two further batches.
    """
    jacobian = torch.zeros(*losses.shape, 1, dtype=losses.dtype) if jacobian is None else jacobian
    step = PermutedStep(
        losses.detach().clone().requires_grad_(),
        GivenGradients(jacobian, further),
        index=torch.tensor(index),
        epoch=torch.tensor(epoch),
        seeds=torch.tensor(range(len(losses)) if seeds is None else seeds),
        counts=counts,
    )
    step.order = range(losses.shape[1]) if order is None else order
    return step


def weigh(strategy: Strategy, step: Step) -> tuple[Tensor, list[Tensor]]:
    """Effective weights `[K, T]` and the gradients of the strategy's parameters, as a trainer computes them.

    Raises as `mtlbench.contracts.strategy.effective_weights`.
    """
    weights = effective_weights(strategy, step)
    gradients = [parameter.grad for parameter in strategy.parameters() if parameter.grad is not None]
    strategy.zero_grad()
    return weights, gradients


def live(strategy: Strategy, step: Step) -> dict[str, Tensor]:
    """Take one step with all hooks, and update the strategy's parameters; raises as `weigh` does.

    Returns:
        The weights `[K, T]`, the directions that the strategy gave, and the gradients of its parameters, by name.
    """
    weights, gradients = weigh(strategy, step)
    with torch.no_grad():
        for parameter, gradient in zip(strategy.parameters(), gradients, strict=True):
            parameter.sub_(0.1 * gradient.clamp(-1, 1))
        strategy.project()
        strategy.after_update(0.9 * step.losses)
        strategy.epoch_end(step.losses.detach())
    tensors = {
        "weights": weights,
        "the trunk's direction": step.direction,
        "the representation's direction": step.representation_direction,
        **{f"gradient {i} of its own parameters": gradient for i, gradient in enumerate(gradients)},
    }
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}
