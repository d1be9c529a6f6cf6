"""Fair resource allocation."""

import math
from typing import Annotated

from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require
from mtlbench.solvers import inverse_power_point


@register("fairgrad")
class FairGrad(Strategy):
    """The direction that is alpha-fair to the tasks' rates of descent.

    It maximises sum_t <d, g_t>^(1 - alpha) / (1 - alpha): w > 0 with G w = w^(-1 / alpha), element by element. Alpha 1
    is the Nash bargaining solution (`nashmtl`), large alpha serves the worst-served task (max-min fairness).

    Source: Ban & Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024, eq. 4; alpha = 2 is the paper's in
    its supervised tables.

    Deviations elsewhere: the official code, LibMTL and TorchJD solve the equation by constrained least squares, from
    equal weights; here by Newton's method, to rounding. LibMTL's default is alpha = 1, TorchJD has none.

    Args:
        shape: (K, T).
        alpha: fairness, finite and > 0.
    """

    def __init__(self, shape: tuple[int, int], *, alpha: Annotated[float, LogUniform(0.25, 8)] = 2.0) -> None:
        super().__init__(shape)
        require(math.isfinite(alpha) and alpha > 0, "alpha must be finite and > 0", alpha)
        self.alpha = alpha

    def forward(self, step: Step) -> Tensor:
        return (inverse_power_point(step.gramian(), self.alpha) * step.losses).sum(-1)
