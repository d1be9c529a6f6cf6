"""Learning rate annealing."""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from mtlbench import Integers, LogUniform, Step, Strategy, register, require
from mtlbench.solvers import reciprocal


@register("lr-annealing")
class LRAnnealing(Strategy):
    """Weights that bring the typical entry of every gradient to that of the main task's gradient.

    With a_t the mean of |g_t| over the trunk's parameters, every `every` steps
    w_t <- (1 - alpha) w_t + alpha max|g_0| / a_t, from w = 1; the main task, the first, keeps weight 1. With
    `reference` mean, the numerator is a_0. A task whose gradient is zero in such a step keeps its weight.

    Source: Wang, Teng & Perdikaris, "Understanding and Mitigating Gradient Flow Pathologies in Physics-Informed Neural
    Networks", SIAM Journal on Scientific Computing 2021, algorithm 1, where the main loss is the residual of the
    equation; defaults are those of the authors' code, `reference` mean with alpha = 0.01 in every step that of NVIDIA's
    PhysicsNeMo.

    Deviations elsewhere: the authors' code takes a_t as the mean over layers of each weight matrix's mean, without
    biases, and of the gradient already multiplied by w_t; the paper's text recommends alpha = 0.9, the code has 0.1.

    Args:
        shape: (K, T).
        alpha: step size of the weights, > 0 and <= 1.
        every: steps from one update of the weights to the next, >= 1; the first step has one.
        reference: `max` or `mean` of the main task's gradient.
    """

    symmetric = False

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        alpha: Annotated[float, LogUniform(0.01, 1)] = 0.1,
        every: Annotated[int, Integers(1, 20)] = 10,
        reference: Literal["max", "mean"] = "max",
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(alpha) and 0 < alpha <= 1, "alpha must be > 0 and <= 1", alpha)
        require(every >= 1, "every must be >= 1", every)
        self.alpha, self.every, self.reference = alpha, every, reference
        self.weights: Tensor
        self.register_buffer("weights", torch.ones(shape))  # [K, T]

    def forward(self, step: Step) -> Tensor:
        sizes = step.jacobian().abs_()  # [K, T, P]
        means = sizes.mean(-1)  # [K, T]
        first = sizes[:, :1].amax(-1) if self.reference == "max" else means[:, :1]  # [K, 1]
        moved = (1 - self.alpha) * self.weights + self.alpha * first * reciprocal(means)
        moved[:, 0] = 1
        self.weights.copy_(torch.where((step.counts % self.every == 0) & (means > 0), moved, self.weights))
        return (self.weights * step.losses).sum(-1)
