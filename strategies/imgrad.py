"""Imbalance-sensitive gradient descent."""

import math
from typing import Annotated

from torch import Tensor

from mtlbench import Step, Strategy, Uniform, register, require
from mtlbench.solvers import conflict_averse_push, min_norm_point, reciprocal

LEAST = 1e-8


@register("imgrad")
class IMGrad(Strategy):
    """CAGrad that serves the worst-served task the more, the less balanced the gradients are.

    With g_0 the mean of the task gradients and cos its cosine to the shortest vector of their convex hull (`mgda`),
    v = argmin over the simplex of (o - cos) <g_v, g_0> + cos c |g_0| |g_v|, and, as in `cagrad`,
    d = g_0 + c |g_0| / |g_v| g_v, so w = 1 / T + c |g_0| / |g_v| v. In balance (cos = 1) g_v is the shortest vector;
    where that is 0, cos is taken as 0, and g_v is the gradient with the smallest <g_t, g_0>.

    Source: Zhou, Liu, Zhao & Gong, "Injecting Imbalance Sensitivity for Multi-Task Learning", IJCAI 2025; c is that of
    the authors' scripts.

    Deviations elsewhere: the authors' code has o = 1.5 where the paper has 1, and multiplies d by T / (1 + c^2), a
    common factor. Its solver stops at a tolerance of 1e-6.

    Args:
        shape: (K, T).
        c: radius relative to |g_0|, finite and >= 0.
        offset: o, finite and >= 1.
    """

    heads = "own"

    def __init__(
        self, shape: tuple[int, int], *, c: Annotated[float, Uniform(0, 1)] = 0.8, offset: float = 1.0
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(c) and c >= 0, "c must be finite and >= 0", c)
        require(math.isfinite(offset) and offset >= 1, "offset must be finite and >= 1", offset)
        self.c, self.offset = c, offset

    def forward(self, step: Step) -> Tensor:
        gramian = step.gramian()
        shortest = min_norm_point(gramian, step.losses.dtype).unsqueeze(-1)  # [K, T, 1]
        products = gramian @ shortest
        norm = (shortest.mT @ products).flatten().clamp_min(0).sqrt()  # [K]
        mean_norm = gramian.mean((-2, -1)).clamp_min(0).sqrt()  # [K]
        cosine = (products.mean((-2, -1)) * reciprocal(norm) * reciprocal(mean_norm)).clamp(0, 1)
        radius = (self.c * cosine / (self.offset - cosine).clamp_min(LEAST)).clamp_min(LEAST)
        push = conflict_averse_push(gramian, radius, step.losses.dtype) / radius.unsqueeze(-1)
        weights = 1 / self.shape[1] + self.c * mean_norm.unsqueeze(-1) * push
        return (weights * step.losses).sum(-1)
