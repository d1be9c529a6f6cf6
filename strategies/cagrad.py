"""Conflict-averse gradient descent."""

import math
from typing import Annotated

from torch import Tensor

from mtlbench import Step, Strategy, Uniform, register, require
from mtlbench.solvers import conflict_averse_push


@register("cagrad")
class CAGrad(Strategy):
    """The direction near the mean gradient that serves the worst-served task best.

    max_d min_t <d, g_t> over |d - g_0| <= c |g_0|, g_0 the mean of the task gradients. Its dual is
    v = argmin over the simplex of <g_v, g_0> + c |g_0| |g_v|, and d = g_0 + c |g_0| / |g_v| g_v, so
    w = 1 / T + c |g_0| / |g_v| v. With c = 0 it is the mean.

    The ball limits the direction, not the weights: if a task's gradient nearly vanishes, v is on that task alone, and
    its weight c |g_0| / |g_t| is large. A gradient of 1e-9 then moves the trunk as far as one of 1.

    Source: Liu, Liu, Jin, Stone & Liu, "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021,
    algorithm 1; c = 0.4 is that of the authors' scripts for NYUv2 and Cityscapes (`run.sh`), their main results.

    Deviations: d is the optimum of the first problem where g_v = 0 too, as with opposite gradients, for which the
    formula is 0 / 0. A gradient of exactly 0, which no direction serves, gets 1 / T and is left out of the minimum.

    Deviations elsewhere: the official code adds 1e-8 to squares and to |g_v|, so that a gradient below 1e-8 is not
    amplified, minimises by SLSQP with its default tolerance, and divides d by 1 + c^2, a common factor. TorchJD
    solves the dual to 1e-8, which leaves its weights off by 1e-4, and unless it is given `norm_eps=0` all weights are 0
    where the squares of all gradients sum to less than 1e-4.

    Args:
        shape: (K, T).
        c: radius relative to |g_0|, finite and >= 0; the paper takes it below 1.
    """

    heads = "own"

    def __init__(self, shape: tuple[int, int], *, c: Annotated[float, Uniform(0, 1)] = 0.4) -> None:
        super().__init__(shape)
        require(math.isfinite(c) and c >= 0, "c must be finite and >= 0", c)
        self.c = c

    def forward(self, step: Step) -> Tensor:
        gramian = step.gramian()
        length = gramian.mean((-2, -1)).clamp_min(0).sqrt().unsqueeze(-1)  # [K, 1], |g_0|
        weights = 1 / self.shape[1] + length * conflict_averse_push(gramian, self.c, step.losses.dtype)
        return (weights * step.losses).sum(-1)
