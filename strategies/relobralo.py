"""Relative loss balancing with random lookback."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, Uniform, register, require


@register("relobralo")
class ReLoBRaLo(Strategy):
    """More weight to the tasks whose loss fell least, since the last step and now and then since the first.

    With u(M) = T softmax(L / (tau M)) for earlier losses M, the weights follow
    w <- alpha (r w + (1 - r) u(L(0))) + (1 - alpha) u(L(last step)), where r is 1 with probability rho, else 0, drawn
    in each step for all tasks. They are 1 in the first step and u(L(first step)) in the second. The sum is T.

    Source: Bischof & Kraus, "Multi-Objective Loss Balancing for Physics-Informed Deep Learning", arXiv 2021, with the
    first two steps of the authors' code.

    Deviations: the authors tune alpha, rho and tau for each problem, and by default their script, with alpha = 0.999,
    tau = 1 and rho = 1, never looks back; the defaults here are those of PhysicsNeMo. There, the second step already is
    an average. L(0) is the loss of the first step, as there, or the first that is not 0; the authors' script takes
    that of the second.

    Args:
        shape: (K, T).
        alpha: share of the weights before, from 0 to 1; 0 is the softmax of the last step's ratios alone.
        rho: probability of keeping them instead of looking back to the first step, from 0 to 1.
        tau: temperature, finite and > 0; large is equal weights.
    """

    losses = "positive"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        alpha: Annotated[float, Uniform(0.9, 1)] = 0.95,
        rho: Annotated[float, Uniform(0.9, 1)] = 0.99,
        tau: Annotated[float, LogUniform(0.01, 10)] = 1.0,
    ) -> None:
        super().__init__(shape)
        require(0 <= alpha <= 1, "alpha must be from 0 to 1", alpha)
        require(0 <= rho <= 1, "rho must be from 0 to 1", rho)
        require(math.isfinite(tau) and tau > 0, "tau must be finite and > 0", tau)
        self.alpha, self.rho, self.tau = alpha, rho, tau
        self.weights: Tensor
        self.first_losses: Tensor
        self.last_losses: Tensor
        self.register_buffer("weights", torch.ones(shape))  # [K, T]
        for name in ("first_losses", "last_losses"):
            self.register_buffer(name, torch.zeros(shape))  # [K, T], 0 until there is one

    def forward(self, step: Step) -> Tensor:
        losses, first = step.losses.detach(), step.index == 0
        self.first_losses.copy_(torch.where(self.first_losses > 0, self.first_losses, losses))
        recent = self._shares(losses, self.last_losses)
        kept = torch.where(step.rand(1) < self.rho, self.weights, self._shares(losses, self.first_losses))  # [K, T]
        followed = torch.where(step.index == 1, recent, self.alpha * kept + (1 - self.alpha) * recent)
        self.weights.copy_(torch.where(first, 1.0, followed))
        self.last_losses.copy_(losses)
        return (self.weights * step.losses).sum(-1)

    def _shares(self, losses: Tensor, earlier: Tensor) -> Tensor:
        """T softmax(L / (tau M)), `[K, T]`; a ratio that overflows is the largest number, one to 0 is 1."""
        ratios = torch.where(earlier > 0, losses / earlier, 1.0) / self.tau
        return self.shape[1] * ratios.clamp_max(torch.finfo(losses.dtype).max).softmax(-1)
