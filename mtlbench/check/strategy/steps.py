"""Steps with made-up losses and gradients, and what a strategy makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlbench.contracts.strategy import Step, Strategy, objective_of
from mtlbench.errors import ContractError


class GivenGradients:
    """Signals of a step made from a given Jacobian `[K, T, P]`.

    The representation has one sample and P features, whose gradients are the Jacobian; two further batches have the
    Jacobian and twice the Jacobian, unless `further` gives theirs.
    """

    def __init__(self, jacobian: Tensor, further: tuple[Tensor, Tensor] | None = None) -> None:
        self._jacobian = jacobian
        self._further = further or (jacobian, 2 * jacobian)

    def gramian(self, *, last: bool = False) -> Tensor:
        """`[K, T, T]`, the same for the last layer."""
        return self._jacobian @ self._jacobian.mT

    def jacobian(self) -> Tensor:
        """A copy, `[K, T, P]`."""
        return self._jacobian.clone()

    def independent_gramian(self) -> Tensor:
        """`[K, T, T]` from the two further batches."""
        one, other = self._further
        return one @ other.mT

    def representation_gradients(self) -> Tensor:
        """`[K, T, 1, P]`."""
        return self._jacobian.unsqueeze(2)


class PermutedStep(Step):
    """A step whose tasks stand in another order: what was drawn for a task is drawn for it in its new place."""

    order: Sequence[int]

    def rand(self, *size: int) -> Tensor:
        """The numbers of the step in its first order, moved with the tasks in each dimension of size T."""
        return permuted(super().rand(*size), self.order)


def permuted(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """The tensor with tasks in another order: all dimensions of size T but the first, which is K."""
    for dim in range(1, tensor.dim()):
        if tensor.shape[dim] == len(order):
            tensor = tensor.index_select(dim, torch.tensor(order))
    return tensor


def given_step(
    losses: Tensor,
    jacobian: Tensor | None = None,
    *,
    index: int = 0,
    epoch: int = 0,
    seeds: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
    further: tuple[Tensor, Tensor] | None = None,
) -> Step:
    """A step with these losses `[K, T]` and task gradients, by default for seeds 0 to K - 1.

    Args:
        losses: `[K, T]`.
        jacobian: `[K, T, P]`; zero where it is not given.
        index: updates made before.
        epoch: from 0.
        seeds: K of them.
        order: where losses and gradients are given in another order of tasks, that order.
        further: the Jacobians of two further batches.
    """
    if jacobian is None:
        jacobian = torch.zeros(*losses.shape, 1, dtype=losses.dtype)
    step = (Step if order is None else PermutedStep)(
        losses.detach().clone().requires_grad_(),
        GivenGradients(jacobian, further),
        index=torch.tensor(index),
        epoch=torch.tensor(epoch),
        seeds=torch.tensor(range(len(losses)) if seeds is None else seeds),
    )
    if isinstance(step, PermutedStep):
        step.order = order or ()
    return step


def weigh(strategy: Strategy, step: Step) -> tuple[Tensor, list[Tensor]]:
    """Effective weights `[K, T]` and the gradients of the strategy's own parameters, as the trainer takes them.

    Raises:
        ContractError: the objective is not `[K]` numbers of the losses' dtype that depend on them, or the step was
            changed.
    """
    objective = objective_of(strategy, step)
    replicas, dtype = len(step.losses), step.losses.dtype
    if not isinstance(objective, Tensor):
        raise ContractError(f"forward(step) must return a tensor, not {type(objective).__name__}")
    if objective.shape != (replicas,):
        raise ContractError(
            f"forward(step) must return one objective per replica, shape [{replicas}], not {list(objective.shape)}"
        )
    if objective.dtype != dtype:
        raise ContractError(f"forward(step) must return the dtype of the losses, {dtype}, not {objective.dtype}")
    if not objective.requires_grad:
        raise ContractError("the objective does not depend on step.losses, and its derivative by them is the weights")
    own = list(strategy.parameters())
    weights, *grads = torch.autograd.grad(objective.sum(), [step.losses, *own], materialize_grads=True)
    return weights, grads


@dataclass(frozen=True)
class Taken:
    """What a strategy made of a step: weights `[K, T]`, directions that it gave, its own parameters' gradients."""

    weights: Tensor
    direction: Tensor | None
    representation_direction: Tensor | None
    grads: list[Tensor]

    def named(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        found = {
            "weights": self.weights,
            "the trunk's direction": self.direction,
            "the representation's direction": self.representation_direction,
            **{f"gradient {i} of its own parameters": grad for i, grad in enumerate(self.grads)},
        }
        return {name: tensor for name, tensor in found.items() if tensor is not None}


def live(strategy: Strategy, step: Step) -> Taken:
    """One step with all its hooks and an update of the strategy's own parameters.

    Raises:
        ContractError: as for `weigh`.
    """
    weights, grads = weigh(strategy, step)
    with torch.no_grad():
        for parameter, grad in zip(strategy.parameters(), grads, strict=True):
            parameter.sub_(0.1 * grad.clamp(-1, 1))
        strategy.project()
        strategy.after_update(0.9 * step.losses)
        strategy.epoch_end(step.losses.detach())
    return Taken(weights, step.direction, step.representation_direction, grads)
