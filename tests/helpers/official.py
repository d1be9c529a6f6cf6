"""The problem that the code of the methods' authors was run on, and a strategy's weights and directions on it.

The test file of each strategy holds the outcome of the authors' code, and names the repository, its commit and the
call. There, `losses`, `gradients` and `further` are the rows of `LOSSES`, `GRADIENTS` and `FURTHER` for a step, `theta`
is a parameter of zeros, and the loss of task t is `losses[t] + gradients[t] @ theta`. All numbers are float64, steps
are taken in order and keep their state. Each step is an epoch of its own, and the losses after an update are those of
the next step, or, in the last one, of the first.
"""

from __future__ import annotations

from collections.abc import Sequence

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
FURTHER = GRADIENTS + GRADIENTS.roll(1, 0) / 4
"""`[S, T, P]`, the gradients of an independent batch. Those of the other one are `GRADIENTS` again."""
AFTER = LOSSES.roll(-1, 0)
"""`[S, T]`, the losses after each update."""


def run(strategy: Strategy, draws: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
    """The weights `[S, T]` and trunk directions `[S, P]` of a strategy in these steps, with all its hooks.

    Its shape is (1, T). With T = 2, the third task is left out. All its random numbers are `draws`, if given, repeated
    as often as needed. Its parameters are trained by Adam.
    """
    tasks = strategy.shape[1]
    weights: list[Tensor] = []
    directions: list[Tensor] = []
    optimizer = torch.optim.Adam([*strategy.parameters(), torch.zeros(())], lr=strategy.lr or 1e-3)
    for index in range(len(LOSSES)):
        losses, jacobian, other, after = (
            tensor[index : index + 1, :tasks] for tensor in (LOSSES, GRADIENTS, FURTHER, AFTER)
        )
        step = given_step(losses, jacobian, index=index, epoch=index, further=(jacobian, other))
        if draws is not None:
            numbers = torch.tensor(draws, dtype=torch.float64)
            step.rand = lambda *size, numbers=numbers: numbers.expand(1, *size)
        found, gradients = weigh(strategy, step)
        weights.append(found[0].clone())
        given = step.direction if step.representation_direction is None else step.representation_direction
        directions.append(((found @ jacobian)[0] if given is None else given).flatten().clone())
        for parameter, gradient in zip(strategy.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        with torch.no_grad():
            strategy.project()
            strategy.after_update(after)
            strategy.epoch_end(losses)
    return torch.stack(weights), torch.stack(directions)
