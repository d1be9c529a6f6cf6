"""Fair resource allocation."""

import math
from typing import Annotated

from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require
from mtlbench.solvers import clipped, inverse_power_point


@register("fairgrad")
class FairGrad(Strategy):
    """The direction that is alpha-fair to the tasks' rates of descent.

    It maximises sum_t <d, g_t>^(1 - alpha) / (1 - alpha): w > 0 with G w = w^(-1 / alpha), element by element. Alpha 1
    is the Nash bargaining solution (`nashmtl`), large alpha serves the worst-served task (max-min fairness). If |d| is
    above `max_norm`, the weights are multiplied by the factor that brings it there.

    Source: Ban & Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024, eq. 4; alpha = 2 is that of the
    authors' scripts for all supervised tables, `max_norm` 1 the default of their code.

    Deviations elsewhere: the official code, LibMTL and TorchJD solve the equation by constrained least squares, from
    equal weights; here by Newton's method, to rounding. The official code multiplies d by T before it clips. LibMTL
    weights the heads, too, does not clip, and its default is alpha = 1; TorchJD has none.

    Args:
        shape: (K, T).
        alpha: fairness, finite and > 0.
        max_norm: largest |d|, finite and >= 0; 0 for no limit.
    """

    heads = "own"

    def __init__(
        self, shape: tuple[int, int], *, alpha: Annotated[float, LogUniform(0.25, 8)] = 2.0, max_norm: float = 1.0
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(alpha) and alpha > 0, "alpha must be finite and > 0", alpha)
        require(math.isfinite(max_norm) and max_norm >= 0, "max_norm must be finite and >= 0", max_norm)
        self.alpha, self.max_norm = alpha, max_norm

    def forward(self, step: Step) -> Tensor:
        gramian = step.gramian()
        precision = step.losses.dtype
        weights = clipped(inverse_power_point(gramian, self.alpha, precision), gramian, self.max_norm, precision)
        return (weights * step.losses).sum(-1)
