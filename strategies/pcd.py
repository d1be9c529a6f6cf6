"""Priority-constrained descent."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require
from mtlbench.solvers import gradient_norms, least_push, reciprocal


@register("pcd")
class PCD(Strategy):
    """The direction nearest to the main task's gradient on which every other task makes a little progress.

    With h_t = g_t / sqrt(m_t + eps), m_t the average of |g_t|^2 with decay beta, bias-corrected, d minimises |d - h_0|
    over <d, h_t> >= tau |h_t|^2, t >= 1, and is rescaled to |g_0|. So w_t is v_t / sqrt(m_t + eps) times a common
    factor, v_0 = 1 and v_t >= 0. If no direction meets all conditions, d is g_0. If d or g_0 is 0, all weights are 0.

    Source: Varam & AlHajri, "Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical
    Multi-Objective Optimization", TMLR 2026 (arXiv:2606.29521), as TorchJD restates it, whose defaults these are.

    Args:
        shape: (K, T).
        tau: share of the progress of a task along its own gradient that it gets at least, >= 0 and <= 1.
        beta: decay of the average squared lengths, >= 0 and < 1.
        eps: added to them, finite and >= 0.
    """

    heads = "own"
    symmetric = False

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        tau: Annotated[float, LogUniform(2e-3, 0.5)] = 0.02,
        beta: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(shape)
        require(0 <= tau <= 1, "tau must be >= 0 and <= 1", tau)
        require(0 <= beta < 1, "beta must be >= 0 and < 1", beta)
        require(math.isfinite(eps) and eps >= 0, "eps must be finite and >= 0", eps)
        self.tau, self.beta, self.eps = tau, beta, eps
        self.roots: Tensor
        self.register_buffer("roots", torch.zeros(shape))  # [K, T], sqrt(m) before its correction

    def forward(self, step: Step) -> Tensor:
        gramian = step.gramian()
        norms = gradient_norms(gramian)  # [K, T]
        squares = self.beta * self.roots.to(norms.dtype).square() + (1 - self.beta) * norms.square()
        self.roots.copy_(squares.sqrt())
        # 1 - beta^k without cancellation.
        logarithm = math.log(max(self.beta, torch.finfo(norms.dtype).tiny))
        seen = -torch.expm1((1 + step.counts).to(norms.dtype) * logarithm)
        scales = reciprocal((squares / seen + self.eps).sqrt())  # [K, T]
        scaled = gramian * scales.unsqueeze(-1) * scales.unsqueeze(-2)
        others = scaled[:, 1:, 1:]
        wanted = self.tau * others.diagonal(dim1=-2, dim2=-1) - scaled[:, 0, 1:]
        v = torch.cat([torch.ones_like(norms[:, :1]), least_push(others, wanted, step.losses.dtype)], -1)  # [K, T]
        square = (v * (scaled @ v.unsqueeze(-1)).squeeze(-1)).sum(-1, keepdim=True)  # [K, 1]
        rounding = 10 * torch.finfo(step.losses.dtype).eps * (v * gradient_norms(scaled)).sum(-1, keepdim=True).square()
        length = torch.where(square > rounding, square, 0.0).sqrt()
        return (v * scales * norms[:, :1] * reciprocal(length) * step.losses).sum(-1)
