"""Multi-objective gradient with double sampling."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require
from mtlbench.solvers import shares_of, simplex_projection


@register("modo")
class MoDo(Strategy):
    """Min-norm weights by one projected gradient step a time, without the bias of taking them from one batch.

    w <- P(w - gamma (J_1 J_2' w + rho w)), P the projection onto the simplex, J_1 and J_2 the task gradients of two
    independent batches; a third, the step's own, is descended with w.

    Source: Chen, Fernando, Ying & Chen, "Three-Way Trade-Off in Multi-Objective Learning: Optimization,
    Generalization and Conflict-Avoidance", NeurIPS 2023, algorithm 1, in the variant with three batches that the
    official code offers; gamma is that of the authors' scripts for NYUv2 and Office-31, rho the default of their code.

    Deviation: head t learns from the step's own batch; in LibMTL from all three, its gradients averaged.

    Deviation elsewhere: in TorchJD gamma is 0.1 by default, as in the authors' code.

    Args:
        shape: (K, T).
        gamma: step size of the weights, finite and > 0.
        rho: their regularisation, finite and >= 0.
    """

    heads = "own"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        gamma: Annotated[float, LogUniform(1e-4, 0.1)] = 1e-3,
        rho: Annotated[float, LogUniform(0.01, 1)] = 0.1,
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(gamma) and gamma > 0, "gamma must be finite and > 0", gamma)
        require(math.isfinite(rho) and rho >= 0, "rho must be finite and >= 0", rho)
        self.gamma, self.rho = gamma, rho
        self.weights: Tensor
        self.register_buffer("weights", torch.ones(shape))  # [K, T], T w

    def forward(self, step: Step) -> Tensor:
        products = step.independent_gramian()  # [K, T, T]
        total = self.weights.sum(-1, keepdim=True)  # T, or less if tasks are absent, which keep theirs
        weights = shares_of(self.weights)
        slope = (products * weights.unsqueeze(1)).sum(-1) + self.rho * weights
        weights = simplex_projection(weights - self.gamma * slope).to(total.dtype)
        self.weights.copy_(total * weights)
        return (weights * step.losses).sum(-1)
