"""Multi-objective gradient correction."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, Uniform, register, require
from mtlbench.solvers import inner_products, shares_of, simplex_projection


@register("moco")
class MoCo(Strategy):
    """Min-norm weights for moving averages of the task gradients, which a batch alone would bias.

    At step k, y_t <- y_t + beta k^-s (g_t - y_t), then w <- P(w - gamma k^-s (y y' + rho I) w), P the projection onto
    the simplex, and the trunk descends d = sum_t w_t y_t: a direction that is no weighting of this step's losses.

    Source: Fernando, Shen, Liu, Chaudhury, Murugesan & Chen, "Mitigating Gradient Bias in Multi-objective Learning:
    A Provably Convergent Approach", ICLR 2023, algorithm 1; defaults are those of the authors' code for NYUv2. For
    Cityscapes it takes beta 0.05 and softmax for the projection, for Office-31 beta 0.1 and, as the gradient of a
    square, twice the slope of w.

    Deviations elsewhere: LibMTL (beta 0.5, s 0.5) scales each g_t to length L_t first and takes softmax for the
    projection, so that its defaults belong to other gradients.

    Args:
        shape: (K, T).
        beta: step size of the averages, > 0 and <= 1.
        gamma: step size of the weights, finite and > 0.
        decay: s, by which both step sizes fall, finite and >= 0.
        rho: regularisation of the weights, finite and >= 0.
    """

    heads = "own"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        beta: Annotated[float, Uniform(0.1, 1)] = 0.99,
        gamma: Annotated[float, LogUniform(0.01, 1)] = 0.1,
        decay: Annotated[float, Uniform(0, 1)] = 0.0,
        rho: float = 0.0,
    ) -> None:
        super().__init__(shape)
        require(0 < beta <= 1, "beta must be > 0 and <= 1", beta)
        require(math.isfinite(gamma) and gamma > 0, "gamma must be finite and > 0", gamma)
        require(math.isfinite(decay) and decay >= 0, "decay must be finite and >= 0", decay)
        require(math.isfinite(rho) and rho >= 0, "rho must be finite and >= 0", rho)
        self.beta, self.gamma, self.decay, self.rho = beta, gamma, decay, rho
        self.weights: Tensor
        self.averages: Tensor
        self.register_buffer("weights", torch.ones(shape))  # [K, T], T w

    def allocate(self, parameters: int) -> None:
        self.register_buffer("averages", torch.zeros(*self.shape, parameters))  # [K, T, P], y

    def forward(self, step: Step) -> Tensor:
        slower = (1 + step.index).to(self.averages.dtype) ** -self.decay
        self.averages.lerp_(step.jacobian(), self.beta * slower)
        products = inner_products(self.averages, self.averages)  # [K, T, T]
        total = self.weights.sum(-1, keepdim=True)  # T, or less if tasks are absent, which keep theirs
        weights = shares_of(self.weights)
        slope = (products * weights.unsqueeze(1)).sum(-1) + self.rho * weights
        weights = simplex_projection(weights - self.gamma * slower * slope).to(total.dtype)
        self.weights.copy_(total * weights)
        step.descend((weights.unsqueeze(1) @ self.averages).squeeze(1))  # [K, P]
        return (weights * step.losses).sum(-1)
