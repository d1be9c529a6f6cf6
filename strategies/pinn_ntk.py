"""Balancing by the neural tangent kernel of square-root losses."""

from typing import Annotated

import torch
from torch import Tensor

from mtlbench import Integers, Step, Strategy, register, require
from mtlbench.solvers import gradient_norms, reciprocal


@register("pinn-ntk")
class PINNNTK(Strategy):
    """Weights that make the square roots of all losses converge at a like speed.

    With k_t = |d sqrt|L_t| / d theta| over the trunk's parameters, |g_t| / (2 sqrt|L_t|), w_t = sum_s k_s / k_t,
    computed anew every `every` steps. A task whose gradient is zero in such a step keeps its weight, at first 1. A loss
    counts as at least the smallest normal number.

    Source: Wang, Yu & Perdikaris, "When and why PINNs fail to train: A neural tangent kernel perspective", Journal of
    Computational Physics 2022, algorithm 1, in the form of NVIDIA's PhysicsNeMo; `every` is that of the paper's code.

    Deviations: the paper has the traces of kernels, sums of the squared gradient of each sample's residual, in place of
    k_t, which treats the root mean square residual as a single one and takes no square. PhysicsNeMo has the first
    weights after 1,000 steps, and then every 1,000 steps.

    Args:
        shape: (K, T).
        every: steps from one update of the weights to the next, >= 1; the first step has one.
    """

    def __init__(self, shape: tuple[int, int], *, every: Annotated[int, Integers(1, 200)] = 100) -> None:
        super().__init__(shape)
        require(every >= 1, "every must be >= 1", every)
        self.every = every
        self.weights: Tensor
        self.register_buffer("weights", torch.ones(shape))  # [K, T]

    def forward(self, step: Step) -> Tensor:
        losses = step.losses.detach().abs()
        roots = losses.clamp_min(torch.finfo(losses.dtype).tiny).sqrt()
        sizes = gradient_norms(step.gramian()) / (2 * roots)  # [K, T], k
        wanted = torch.where(sizes > 0, sizes.sum(-1, keepdim=True) * reciprocal(sizes), self.weights)
        self.weights.copy_(torch.where(step.counts % self.every == 0, wanted, self.weights))
        return (self.weights * step.losses).sum(-1)
