"""Conflict-averse gradient descent."""

import math
from typing import Annotated

from torch import Tensor

from mtlbench import Step, Strategy, Uniform, register, require
from mtlbench.solvers import conflict_averse_point, reciprocal


@register("cagrad")
class CAGrad(Strategy):
    """The direction near the mean gradient that serves the worst-served task best.

    max_d min_t <d, g_t> over |d - g_0| <= c |g_0|, g_0 the mean of the task gradients. Its dual is
    v = argmin over the simplex of <g_v, g_0> + c |g_0| |g_v|, and d = g_0 + c |g_0| / |g_v| g_v, so
    w = 1 / T + c |g_0| / |g_v| v. With c = 0 it is the mean.

    Source: Liu, Liu, Jin, Stone & Liu, "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021,
    algorithm 1.

    Deviations elsewhere: the official code and LibMTL divide d by 1 + c^2 or 1 + c on request, a common factor.
    TorchJD solves the dual to 1e-8, which leaves its weights off by 1e-4, and unless it is given `norm_eps=0` all
    weights are 0 where the squares of all gradients sum to less than 1e-4.

    Args:
        shape: (K, T).
        c: radius relative to |g_0|, finite and >= 0; the paper takes it below 1 (0.4 for NYUv2).
    """

    heads = "own"

    def __init__(self, shape: tuple[int, int], *, c: Annotated[float, Uniform(0, 1)] = 0.5) -> None:
        super().__init__(shape)
        require(math.isfinite(c) and c >= 0, "c must be finite and >= 0", c)
        self.c = c

    def forward(self, step: Step) -> Tensor:
        gramian = step.gramian()
        v = conflict_averse_point(gramian, self.c).unsqueeze(-1)  # [K, T, 1]
        mean_norm = gramian.mean((-2, -1)).clamp_min(0).sqrt()  # [K]
        norm = (v.mT @ gramian @ v).flatten().clamp_min(0).sqrt()  # [K]
        push = self.c * mean_norm * reciprocal(norm)
        weights = 1 / self.shape[1] + push.unsqueeze(-1) * v.squeeze(-1)
        return (weights * step.losses).sum(-1)
