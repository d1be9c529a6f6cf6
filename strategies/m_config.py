"""Conflict-free training with momentum."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import Integers, Step, Strategy, register, require
from mtlbench.solvers import equiangular_weights, inner_products, reciprocal

SMALL = 1e-8


@register("m-config")
class MConFIG(Strategy):
    """ConFIG's direction for averaged gradients, of which only some are renewed in a step, and divided as in Adam.

    The average y_t <- beta_1 y_t + (1 - beta_1) g_t takes in the gradients of `updates` tasks a step, in turn; u is the
    direction of `config` for y_t / (1 - beta_1^k_t), k_t the number of gradients in y_t. In the j-th step with a u, the
    gradient p whose average would be u is p = (a_j - beta_1 a_{j-1}) / (1 - beta_1), a_j = (1 - beta_1^j) u, and the
    trunk descends u / (sqrt(s / (1 - beta_2^j)) + 1e-8), s <- beta_2 s + (1 - beta_2) p^2. Until each task has had its
    turn, the direction is 0. It is no weighting of this step's losses: the recorded weights are those of `config` for
    the averages.

    Source: Liu, Chu & Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks", ICLR
    2025, M-ConFIG, and the authors' code, whose defaults these are.

    Deviations: the authors train network and heads by plain SGD, for which the division replaces Adam; here the setup's
    optimizer comes on top. Their gain in speed, from backward passes for the tasks in turn only, is not had here, where
    all gradients are computed.

    Args:
        shape: (K, T).
        updates: number of gradients that are renewed in a step, >= 1; more than T is T.
        beta_1: decay of the average gradients, >= 0 and < 1.
        beta_2: decay of the average squares, >= 0 and < 1.
    """

    heads = "own"
    symmetric = False  # the tasks' turns are in the order of their positions

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        updates: Annotated[int, Integers(1, 4)] = 1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
    ) -> None:
        super().__init__(shape)
        require(updates >= 1, "updates must be >= 1", updates)
        require(0 <= beta_1 < 1, "beta_1 must be >= 0 and < 1", beta_1)
        require(0 <= beta_2 < 1, "beta_2 must be >= 0 and < 1", beta_2)
        self.updates, self.beta_1, self.beta_2 = min(updates, shape[1]), beta_1, beta_2
        self.averages: Tensor
        self.last: Tensor
        self.squares: Tensor

    def allocate(self, parameters: int) -> None:
        self.register_buffer("averages", torch.zeros(*self.shape, parameters))  # [K, T, P], y
        self.register_buffer("last", torch.zeros(self.shape[0], parameters))  # [K, P], a
        self.register_buffer("squares", torch.zeros(self.shape[0], parameters))  # [K, P], s

    def forward(self, step: Step) -> Tensor:
        tasks, dtype = self.shape[1], self.averages.dtype
        turns = torch.arange(tasks, device=step.index.device) - step.index * self.updates  # [T]
        renewed = self.averages.lerp(step.jacobian(), 1 - self.beta_1)
        self.averages.copy_(torch.where((turns % tasks < self.updates).unsqueeze(-1), renewed, self.averages))
        counts = ((self.updates - 1 - turns).div(tasks, rounding_mode="floor") + 1).to(dtype)  # [T], k
        means = self.averages / (1 - self.beta_1**counts).clamp_min(1 - self.beta_1).unsqueeze(-1)
        weights = _config_weights(inner_products(means, means), dtype).to(dtype)
        u = (weights.unsqueeze(1) @ means).squeeze(1)  # [K, P]
        number = step.index - math.ceil(tasks / self.updates) + 2  # j
        begun, number = number >= 1, number.clamp_min(1).to(dtype)
        current = (1 - self.beta_1**number) * u
        gradient = (current - self.beta_1 * self.last) / (1 - self.beta_1)
        squares = self.beta_2 * self.squares + (1 - self.beta_2) * gradient.square()
        self.last.copy_(torch.where(begun, current, self.last))
        self.squares.copy_(torch.where(begun, squares, self.squares))
        divided = u / ((self.squares / (1 - self.beta_2**number)).sqrt() + SMALL)
        step.descend(torch.where(begun, divided, 0.0))
        return (weights * step.losses).sum(-1)


def _config_weights(gramian: Tensor, precision: torch.dtype) -> Tensor:
    v = equiangular_weights(gramian, precision)  # [K, T]
    projections = (gramian @ v.unsqueeze(-1)).squeeze(-1)
    return v * (projections.sum(-1) * reciprocal((v * projections).sum(-1))).unsqueeze(-1)
