"""Stochastic direction-oriented multi-objective gradient descent."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import Step, Strategy, Uniform, register, require
from mtlbench.solvers import clipped, shares_of, simplex_projection

SMALL = 1e-8


@register("sdmgrad")
class SDMGrad(Strategy):
    """Min-norm weights, drawn towards the mean gradient, without the bias of taking them from one batch.

    With A = J_1 J_2' from two independent batches, divided by the square of the mean root of its diagonal, and
    p = 1 / T, v takes steps of SGD with momentum along A (v + lambda p), each followed by projection onto the simplex;
    it starts where the last training step left it. A third batch, the step's own, is descended with
    w = (v + lambda p) / (1 + lambda), times the factor that brings |d| to `max_norm`, if it is above.

    Source: Xiao, Ban & Ji, "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms",
    NeurIPS 2023, algorithm 1 and section 6.1; all defaults are those of the authors' code.

    Deviation: head t learns from the step's own batch; in the official code from all three.

    Deviations elsewhere: the official code adds 1e-4 to the diagonal before it takes its root, which shortens the steps
    of v where gradients are shorter than 0.01, and multiplies d by T before it clips. In LibMTL the learning rate is 5,
    and nothing is clipped.

    Args:
        shape: (K, T).
        strength: lambda, the pull towards the mean gradient, finite and >= 0.
        steps: of the inner SGD, >= 1.
        rate: its learning rate, finite and > 0.
        momentum: >= 0 and < 1.
        max_norm: largest |d|, finite and >= 0; 0 for no limit, which saves the Gramian of the step's own batch.
    """

    heads = "own"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        strength: Annotated[float, Uniform(0, 10)] = 0.3,
        steps: int = 20,
        rate: float = 10.0,
        momentum: float = 0.5,
        max_norm: float = 1.0,
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(strength) and strength >= 0, "strength must be finite and >= 0", strength)
        require(steps >= 1, "steps must be >= 1", steps)
        require(math.isfinite(rate) and rate > 0, "rate must be finite and > 0", rate)
        require(0 <= momentum < 1, "momentum must be >= 0 and < 1", momentum)
        require(math.isfinite(max_norm) and max_norm >= 0, "max_norm must be finite and >= 0", max_norm)
        self.strength, self.steps, self.rate, self.momentum, self.max_norm = strength, steps, rate, momentum, max_norm
        self.shares: Tensor
        self.register_buffer("shares", torch.ones(shape))  # [K, T], T v

    def forward(self, step: Step) -> Tensor:
        products = step.independent_gramian()  # [K, T, T]
        length = products.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt().mean(-1)  # [K]
        products = products / (length.square() + SMALL)[:, None, None]
        pull = self.strength * products.mean(-1)  # [K, T]
        total = self.shares.sum(-1, keepdim=True)  # T, or less if tasks are absent, which keep theirs
        shares = shares_of(self.shares.to(products.dtype))
        velocity = torch.zeros_like(shares)
        for _ in range(self.steps):
            velocity = self.momentum * velocity + (products @ shares.unsqueeze(-1)).squeeze(-1) + pull
            shares = simplex_projection(shares - self.rate * velocity)
        self.shares.copy_(total * shares)
        weights = (shares + self.strength / self.shape[1]) / (1 + self.strength)
        if self.max_norm:
            weights = clipped(weights, step.gramian(), self.max_norm, step.losses.dtype)
        return (weights * step.losses).sum(-1)
