"""Conflict-free training with momentum."""

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
    trunk descends u / (sqrt(s / (1 - beta_2^j)) + 1e-8), s <- beta_2 s + (1 - beta_2) p^2. Until each task of the step
    has had its turn, the direction is 0. It is no weighting of this step's losses: the recorded weights are those of
    `config` for the averages.

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
        self.turns: Tensor
        self.renewals: Tensor
        self.begun: Tensor
        self.register_buffer("turns", torch.arange(shape[1]).repeat(shape[0], 1) - shape[1])  # [K, T], the last one's
        self.register_buffer("renewals", torch.zeros(shape, dtype=torch.int64))  # [K, T], k
        self.register_buffer("begun", torch.zeros(shape[0], 1, dtype=torch.int64))  # [K, 1], j
        self.averages: Tensor
        self.last: Tensor
        self.squares: Tensor

    def allocate(self, parameters: int) -> None:
        self.register_buffer("averages", torch.zeros(*self.shape, parameters))  # [K, T, P], y
        self.register_buffer("last", torch.zeros(self.shape[0], parameters))  # [K, P], a
        self.register_buffer("squares", torch.zeros(self.shape[0], parameters))  # [K, P], s

    def forward(self, step: Step) -> Tensor:
        dtype = self.averages.dtype
        places = self.turns.argsort(-1).argsort(-1)  # [K, T], 0 for the task whose turn was longest ago
        chosen = places < self.updates
        renewed = self.averages.lerp(step.jacobian(), 1 - self.beta_1)
        self.averages.copy_(torch.where(chosen.unsqueeze(-1), renewed, self.averages))
        self.turns.copy_(torch.where(chosen, step.index * self.updates + places, self.turns))
        self.renewals.add_(chosen)
        corrections = 1 - self.beta_1 ** self.renewals.to(dtype)
        means = self.averages / corrections.clamp_min(1 - self.beta_1).unsqueeze(-1)
        weights = _config_weights(inner_products(means, means), dtype).to(dtype)
        u = (weights.unsqueeze(1) @ means).squeeze(1)  # [K, P]
        begun = (self.renewals > 0).all(-1, keepdim=True)  # [K, 1]
        self.begun.add_(begun)
        number = self.begun.clamp_min(1).to(dtype)  # [K, 1], j
        current = (1 - self.beta_1**number) * u
        gradient = (current - self.beta_1 * self.last) / (1 - self.beta_1)
        most = torch.finfo(dtype).max / 4  # so that squares do not overflow
        squares = self.beta_2 * self.squares + (1 - self.beta_2) * gradient.square().clamp_max(most)
        self.last.copy_(torch.where(begun, current, self.last))
        self.squares.copy_(torch.where(begun, squares, self.squares))
        divided = u / ((self.squares / (1 - self.beta_2**number)).sqrt() + SMALL)
        step.descend(torch.where(begun, divided, 0.0))
        return (weights * step.losses).sum(-1)


def _config_weights(gramian: Tensor, precision: torch.dtype) -> Tensor:
    v = equiangular_weights(gramian, precision)  # [K, T]
    projections = (gramian @ v.unsqueeze(-1)).squeeze(-1)
    return v * (projections.sum(-1) * reciprocal((v * projections).sum(-1))).unsqueeze(-1)
