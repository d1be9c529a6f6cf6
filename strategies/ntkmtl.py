"""Balancing by the neural tangent kernel, over the shared parameters."""

import math
from typing import Annotated

from torch import Tensor

from mtlbench import Step, Strategy, Uniform, register, require
from mtlbench.solvers import clipped, gradient_norms, reciprocal


@register("ntkmtl")
class NTKMTL(Strategy):
    """More weight to tasks that converge slowly, judged by the size of their neural tangent kernel.

    For the mean loss of a batch (n = 1), the kernel of task t is the number G_tt = |g_t|^2, and
    w_t = T (tr G / G_tt)^p. With p = 1/2 all gradients w_t g_t have one length, with p = 0 all weights are T. The
    direction sum_t w_t g_t is then clipped to the length `max_norm`, which is a common factor on the weights. A task
    with a zero gradient gets weight 0.

    Source: Qin, Wang, Liao & Yan, "NTKMTL: Mitigating Task Imbalance in Multi-Task Learning from Neural Tangent Kernel
    Perspective", NeurIPS 2025, eq. 15; defaults, the factor T and the clipping are those of the authors' code.

    Deviations: the paper has the mean of G_tt in place of its sum, the trace, a common factor. In the authors' code,
    p is 0.75 for NYUv2.

    Args:
        shape: (K, T).
        power: p, finite and >= 0.
        max_norm: largest length of the shared gradient, finite and >= 0; 0 is no clipping.
    """

    heads = "own"

    def __init__(
        self, shape: tuple[int, int], *, power: Annotated[float, Uniform(0.25, 1)] = 0.5, max_norm: float = 1.0
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(power) and power >= 0, "power must be finite and >= 0", power)
        require(math.isfinite(max_norm) and max_norm >= 0, "max_norm must be finite and >= 0", max_norm)
        self.power, self.max_norm = power, max_norm

    def forward(self, step: Step) -> Tensor:
        gramian, tasks = step.gramian(), self.shape[1]
        norms = gradient_norms(gramian)  # [K, T]
        total = norms.square().sum(-1, keepdim=True).sqrt()  # [K, 1]
        weights = tasks * (total * reciprocal(norms)) ** (2 * self.power) * (norms > 0)
        return (clipped(weights, gramian, self.max_norm) * step.losses).sum(-1)
