"""The problem that the code of several methods' authors was run on, whose outcomes the methods' test files hold.

Each of those files names the repository, its commit and the call. `GRADIENTS` and `LOSSES` are written there as here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.contracts.strategy import Strategy
from tests.helpers.toy import given_step, weigh

LOSSES = torch.tensor([[2.0, 0.5, 1.25], [1.5, 0.75, 1.0], [1.25, 0.25, 0.5]], dtype=torch.float64)
"""`[S, T]`, three steps of three tasks."""
GRADIENTS = torch.tensor(
    [
        [[3.0, 1.0, 0.0, -2.0], [-1.0, 2.0, 0.5, 0.25], [0.5, 0.0, -1.0, 0.125]],
        [[2.0, 0.5, -1.0, -1.0], [-0.5, 1.0, 1.0, 0.5], [1.0, -0.25, -0.5, 0.25]],
        [[-1.0, 0.25, 0.5, 1.0], [0.25, 1.0, -0.5, 0.5], [0.75, 0.5, -0.25, 2.0]],
    ],
    dtype=torch.float64,
)
"""`[S, T, P]`, their gradients."""


def run(strategy: Strategy) -> tuple[Tensor, Tensor]:
    """The weights `[S, T]` and trunk directions `[S, P]` of a strategy of shape (1, T) in these steps."""
    weights: list[Tensor] = []
    directions: list[Tensor] = []
    for index, (losses, jacobian) in enumerate(zip(LOSSES, GRADIENTS, strict=True)):
        step = given_step(losses.unsqueeze(0), jacobian.unsqueeze(0), index=index)
        weights.append(weigh(strategy, step)[0][0].clone())
        directions.append(weights[-1] @ jacobian if step.direction is None else step.direction[0].clone())
    return torch.stack(weights), torch.stack(directions)


def assert_equal(found: Tensor, expected: list[list[float]]) -> None:
    """The largest difference is below 1e-8 of the largest number."""
    numbers = torch.tensor(expected, dtype=torch.float64)
    assert found.shape == numbers.shape
    assert float((found - numbers).abs().max()) < 1e-8 * float(numbers.abs().max())
