"""Small setups, problems and steps that tests train and weigh on, with no data set behind them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench.records import Spec
from mtlbench.registry import Registry
from mtlbench.strategy import Step, Strategy
from mtlbench.tasks import Setup, Split, Task, binary, classification


def toy_setup(
    *,
    widths: tuple[int, ...] = (6, 5, 4),
    tasks: Sequence[Task] = (classification("digit", 3), binary("above_five")),
    size: int = 60,
    seed: int = 0,
) -> Setup:
    """Random inputs with learnable targets, float64, split into training, validation and test."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3 * size, widths[0], generator=generator, dtype=torch.float64)
    classes = inputs[:, :3].argmax(-1)
    columns = [classes if task.columns > 1 else (classes > 0).long() for task in tasks]
    targets = torch.stack(columns, dim=-1)
    splits = [
        Split(inputs[part], targets[part]) for part in (slice(0, size), slice(size, 2 * size), slice(2 * size, None))
    ]
    return Setup(
        name="toy",
        about="random inputs",
        tasks=tuple(tasks),
        widths=widths,
        samples=lambda: (splits[0], splits[1]),
        test=lambda: splits[2],
        training_size=size,
    )


class GivenGradients:
    """Signals of a step made from a given Jacobian `[K, T, P]`.

    The representation has one sample and P features, whose gradients are the Jacobian; two further batches have the
    Jacobian and twice the Jacobian, unless `further` gives theirs.
    """

    def __init__(self, jacobian: Tensor, further: tuple[Tensor, Tensor] | None = None) -> None:
        self._jacobian = jacobian
        self._further = further or (jacobian, 2 * jacobian)

    def gramian(self, *, last: bool = False) -> Tensor:
        return self._jacobian @ self._jacobian.mT

    def jacobian(self) -> Tensor:
        return self._jacobian.clone()

    def independent_gramian(self) -> Tensor:
        one, other = self._further
        return one @ other.mT

    def representation_gradients(self) -> Tensor:
        return self._jacobian.unsqueeze(2)


def given_step(
    losses: Tensor,
    jacobian: Tensor | None = None,
    *,
    index: int = 0,
    epoch: int = 0,
    further: tuple[Tensor, Tensor] | None = None,
) -> Step:
    """A step with these losses `[K, T]` and task gradients, and seeds 0 to K - 1."""
    if jacobian is None:
        jacobian = torch.zeros(*losses.shape, 1, dtype=losses.dtype)
    return Step(
        losses.detach().clone().requires_grad_(),
        GivenGradients(jacobian, further),
        index=torch.tensor(index),
        epoch=torch.tensor(epoch),
        seeds=torch.arange(len(losses)),
    )


def problem(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Positive losses `[K, T]` over several magnitudes, and task gradients `[K, T, 7]`."""
    generator = torch.Generator().manual_seed(seed)
    losses = torch.exp(2 * torch.randn(shape, generator=generator, dtype=torch.float64))
    return losses, torch.randn(*shape, 7, generator=generator, dtype=torch.float64)


def uneven_problem(tasks: int, seed: int, *, replicas: int = 6, features: int = 9) -> tuple[Tensor, Tensor]:
    """Positive losses `[K, T]` and task gradients `[K, T, F]`, both over several magnitudes; F > T is full rank."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    lengths = torch.exp(2 * normal(replicas, tasks, 1))
    return torch.exp(2 * normal(replicas, tasks)), lengths * normal(replicas, tasks, features)


def build(
    registry: Registry,
    name: str,
    shape: tuple[int, int],
    parameters: int = 7,
    *,
    hyper: dict[str, object] | None = None,
) -> Strategy:
    """A strategy in float64 with room for P trunk parameters."""
    strategy = registry.build(Spec(label=name, name=name, hyper=hyper or {}), shape)
    strategy.allocate(parameters)
    return strategy.double()


def weigh(strategy: Strategy, step: Step) -> tuple[Tensor, list[Tensor]]:
    """Effective weights `[K, T]` and the gradients of the strategy's own parameters."""
    objective = strategy(step)
    assert objective.shape == step.losses.shape[:1]
    own = list(strategy.parameters())
    weights, *grads = torch.autograd.grad(objective.sum(), [step.losses, *own])
    return weights, grads


def direction(strategy: Strategy, step: Step, jacobian: Tensor) -> Tensor:
    """What the trunk descends, `[K, P]`: the gradient that the strategy gave it, or the weighted sum."""
    weights, _ = weigh(strategy, step)
    return (weights.unsqueeze(1) @ jacobian).squeeze(1) if step.direction is None else step.direction
