"""Several steps of one strategy on random problems, to be repeated by a plain loop over explicit gradients."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from mtlbench.contracts.strategy import Strategy
from tests.helpers.gradient_problems import Array
from tests.helpers.toy import given_step, uneven_problem, weigh

REPLICAS, FEATURES, STEPS = 3, 9, 5
few_tasks = st.integers(2, 4)
few_plays = settings(max_examples=20)  # each example is a stack of problems over several steps


def play(strategy: Strategy, tasks: int, seed: int) -> list[tuple[Array, Array, Array, Array, list[Array]]]:
    """Several steps: losses `[K, T]`, Jacobian `[K, T, P]`, weights, direction `[K, P]`, two further Jacobians."""
    played: list[tuple[Array, Array, Array, Array, list[Array]]] = []
    for index in range(STEPS):
        problems = [uneven_problem(tasks, seed + 1000 * i + index, replicas=REPLICAS) for i in range(3)]
        losses, jacobian = problems[0]
        further = problems[1][1], problems[2][1]
        step = given_step(losses, jacobian, index=index, further=further)
        weights, _ = weigh(strategy, step)
        chosen = (weights.unsqueeze(1) @ jacobian).squeeze(1) if step.direction is None else step.direction
        # Copies, because buffers are written in place.
        arrays = [tensor.clone().numpy() for tensor in (losses, jacobian, weights, chosen)]
        played.append((arrays[0], arrays[1], arrays[2], arrays[3], [tensor.numpy() for tensor in further]))
    return played


def nearest_on_simplex(v: Array) -> Array:
    """The nearest point of the simplex, by bisection on the amount subtracted from every entry."""
    low, high = float(v.min()) - 1, float(v.max())
    for _ in range(70):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(v - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(v - high, 0)


def equal_shares(tasks: int) -> Array:
    return np.full((REPLICAS, tasks), 1 / tasks)


def assert_close(actual: Array, expected: Array) -> None:
    """The difference is below 1e-8 of the expected length."""
    assert np.linalg.norm(actual - expected) < 1e-8 * np.linalg.norm(expected)
