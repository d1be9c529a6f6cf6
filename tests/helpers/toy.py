"""Small setups, problems and steps without a data set, for tests that train or weigh."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mtlbench.check.strategy.cases import random_case
from mtlbench.check.strategy.small_training import toy_setup
from mtlbench.check.strategy.steps import GivenGradients, given_step, weigh
from mtlbench.contracts.convolutions import Conv, Convolutions
from mtlbench.contracts.setup import Setup
from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import Spec

__all__ = [
    "TINY",
    "GivenGradients",
    "build",
    "convolved_setup",
    "direction",
    "given_step",
    "problem",
    "toy_setup",
    "uneven_problem",
    "weigh",
    "weights_of",
]

# An epoch takes a fraction of a second. `tests.helpers.preloaded` registers it.
TINY = replace(toy_setup(size=200), name="tiny", passes=10)


def convolved_setup() -> Setup:
    """Two convolutions, the second with a row that pooling drops, and two linear layers."""
    convolutions = Convolutions((2, 6, 7), (Conv(3, kernel=3), Conv(4, kernel=2, pool=2)))
    return replace(
        toy_setup(widths=(convolutions.inputs, 5)), widths=(convolutions.features, 5, 4), convolutions=convolutions
    )


def problem(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Losses `[K, T]` and task gradients `[K, T, 7]` of a random case of one step, in float64."""
    case = random_case(shape, seed)
    return case.losses[0], case.jacobians[0]


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


def direction(strategy: Strategy, step: Step, jacobian: Tensor) -> Tensor:
    """The trunk's gradient `[K, P]`: the direction that the strategy set, or the weighted sum of task gradients."""
    weights, _ = weigh(strategy, step)
    return (weights.unsqueeze(1) @ jacobian).squeeze(1) if step.direction is None else step.direction


def weights_of(strategy: Strategy, losses: Tensor, *, index: int = 0, epoch: int = 0) -> Tensor:
    """Weights `[K, T]` of a strategy that looks at losses alone."""
    return weigh(strategy, given_step(losses, index=index, epoch=epoch))[0]
