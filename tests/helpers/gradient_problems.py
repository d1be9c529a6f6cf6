"""Random problems with badly scaled gradients, solved by one step of a strategy, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.contracts.strategy import Step
from mtlbench.plugins.registry import Registry
from tests.helpers.toy import GivenGradients, build, given_step, uneven_problem, weigh

Array = NDArray[np.float64]
shapes = st.tuples(st.integers(1, 3), st.integers(2, 5))  # (K, T)
task_counts = st.integers(2, 5)
numbers = st.integers(0, 2**20)  # seeds
few = settings(max_examples=25)  # each example is a stack of problems


def solve(
    registry: Registry, name: str, losses: Tensor, jacobian: Tensor, *, hyper: dict[str, object] | None = None
) -> tuple[Tensor, Tensor]:
    """Weights `[K, T]` and direction `[K, P]` of a strategy's first step."""
    strategy = build(registry, name, (losses.shape[0], losses.shape[1]), jacobian.shape[-1], hyper=hyper)
    weights, _ = weigh(strategy, given_step(losses, jacobian))
    return weights, (weights.unsqueeze(1) @ jacobian).squeeze(1)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Batched matrix-vector product."""
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def unit(vector: Tensor) -> Tensor:
    """The vector divided by its length."""
    return vector / vector.norm(dim=-1, keepdim=True)


class OrderedStep(Step):
    """A step whose random numbers are given."""

    drawn: Tensor

    def rand(self, *size: int) -> Tensor:
        assert self.drawn.shape[1:] == size
        return self.drawn


def ordered_step(losses: Tensor, jacobian: Tensor, drawn: Tensor) -> Step:
    """A step with these losses, gradients and random numbers `[K, T, T]`."""
    step = OrderedStep(
        losses.clone().requires_grad_(),
        GivenGradients(jacobian),
        index=torch.tensor(0),
        epoch=torch.tensor(0),
        seeds=torch.arange(len(losses)),
    )
    step.drawn = drawn
    return step


def project_by_enumeration(gramian: Array, start: Array) -> Array:
    """argmin v'Gv over v >= start: tries every set of raised tasks, and keeps the one that meets the conditions."""
    norms = np.sqrt(np.diag(gramian))
    cosines, u = gramian / np.outer(norms, norms), start * norms
    best, least = u, np.inf
    for size in range(len(u) + 1):
        for raised in map(list, itertools.combinations(range(len(u)), size)):
            v = u.copy()
            v[raised] += np.linalg.solve(cosines[np.ix_(raised, raised)], -(cosines @ u)[raised])
            violation = max(0.0, *(u - v), *(-cosines @ v))
            if violation < least:
                best, least = v, violation
    return best / norms


def assert_projects(
    registry: Registry, name: str, tasks: int, seed: int, expected_weights: Callable[[Array], Array]
) -> None:
    """The weights are those expected from each Gramian, and the direction conflicts with no gradient."""
    losses, jacobian = uneven_problem(tasks, seed, replicas=3)
    expected = torch.from_numpy(np.array([expected_weights(one) for one in (jacobian @ jacobian.mT).numpy()]))
    weights, d = solve(registry, name, losses, jacobian)
    norms = jacobian.norm(dim=-1)
    torch.testing.assert_close(weights * norms, expected * norms, rtol=1e-8, atol=1e-9)
    assert bool((times(unit(jacobian), unit(d)) > -1e-9).all())
