"""Unconflicting projection of gradients."""

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register
from mtlbench.solvers import dual_cone_projection


@register("upgrad")
class UPGrad(Strategy):
    """Each task gradient projected onto the directions that no task objects to, then averaged.

    w = mean_i argmin {v'Gv : v >= e_i}, e_i the i-th unit vector: <d, g_t> >= 0 for every task. Where no gradients
    conflict it is the mean; for two tasks it is half of PCGrad's weights.

    Source: Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024 (arXiv:2406.16232),
    proposition 1.

    Deviation elsewhere: TorchJD normalises G and adds a ridge of 1e-4 to it by default, which moves the weights, where
    lengths differ by orders of magnitude by up to their own size; `reg_eps=0` takes it away.

    Args:
        shape: (K, T).
    """

    heads = "own"

    def forward(self, step: Step) -> Tensor:
        gramian = step.gramian().unsqueeze(1)  # [K, 1, T, T]
        each = torch.eye(self.shape[1], device=gramian.device, dtype=gramian.dtype)
        weights = dual_cone_projection(gramian, each, step.losses.dtype).mean(1)  # [K, T]
        return (weights * step.losses).sum(-1)
