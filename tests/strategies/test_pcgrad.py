"""`pcgrad`: conflicting gradients are projected off each other, in a random order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import Array, few, numbers, ordered_step, solve, task_counts
from tests.helpers.plain import PlainStep, Surgery, projected_pair
from tests.helpers.toy import build, direction, given_step, uneven_problem

# The code of tianheyu927/PCGrad at c5fbd7c, PCGrad_tf.py, with TensorFlow 2.21 in float64: compute_gradients([losses
# + gradients @ theta], [theta]) of PCGrad around a GradientDescentOptimizer, for each step. Its tf.random.shuffle has
# no effect.
DIRECTIONS = [
    [2.6865286855482937, 4.036554621848739, -0.9272590517688557, -1.6406577445793131],
    [2.8386363636363634, 2.579090909090909, 0.26818181818181813, 0.13590909090909087],
    [0.0, 1.75, -0.25, 3.5],
]


class PCGrad(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        return projected_pair(jacobian).sum(0)


PLAIN = {"pcgrad": PCGrad}
DRAWS = [0.1, 0.4, 0.8]  # each task visits the others in their order
AUTHORS = Authors(
    Comparison(code("tianheyu927/PCGrad", "c5fbd7c"), DIRECTIONS, "directions", draws=DRAWS),
    Comparison(TORCHJD, aggregated(aggregation.PCGrad, randperm=torch.arange), "directions", draws=DRAWS),
    default="none to choose",
    deviations="random order, as in algorithm 1; the code's order is always that of the tasks",
)


def surgery(gradients: Array, orders: Array) -> Array:
    """Algorithm 1 of PCGrad on gradients `[T, P]`, row i against the others as `orders[i]` has them."""
    total = np.zeros(gradients.shape[1])
    for i, gradient in enumerate(gradients):
        changed = gradient.copy()
        for j in orders[i]:
            if j != i and changed @ gradients[j] < 0:
                changed -= changed @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
        total += changed
    return total


@pytest.mark.parametrize("seed", range(5))
def test_is_its_loop_in_every_order(registry: Registry, seed: int) -> None:
    """All 216 ways in which three rows can order three tasks, one in each replica."""
    orders = np.array(list(itertools.product(itertools.permutations(range(3)), repeat=3)))  # [216, 3, 3]
    losses, jacobian = (tensor.expand(len(orders), *tensor.shape[1:]) for tensor in uneven_problem(3, seed, replicas=1))
    jacobian = jacobian - 0.9 * jacobian.mean(1, keepdim=True)  # mostly in conflict
    step = ordered_step(losses, jacobian, torch.from_numpy(orders.argsort(-1)).double())
    actual = direction(build(registry, "pcgrad", (len(orders), 3)), step, jacobian)
    expected = np.array([surgery(g, order) for g, order in zip(jacobian.numpy(), orders, strict=True)])
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=1e-9, atol=1e-12)


@few
@given(tasks=task_counts, seed=numbers)
def test_is_its_loop_in_the_order_drawn(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed, features=4)
    orders = given_step(losses).rand(tasks, tasks).argsort(-1).numpy()
    _, actual = solve(registry, "pcgrad", losses, jacobian)
    expected = np.array([surgery(g, order) for g, order in zip(jacobian.numpy(), orders, strict=True)])
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=1e-9, atol=1e-9 * float(actual.abs().max()))
