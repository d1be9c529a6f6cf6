"""Projecting conflicting gradients."""

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register
from mtlbench.solvers import gradient_norms, reciprocal


@register("pcgrad")
class PCGrad(Strategy):
    """Each task gradient loses its component against every other task gradient that it conflicts with.

    Row i of C starts as the i-th unit vector; for the other tasks j in random order, q = <sum_s C_is g_s, g_j>, and
    where q < 0, C_ij -= q / |g_j|^2. The direction is the sum of the rows' gradients: w = sum_i C_i. Projections are
    against the gradients as they were. Where no gradients conflict it is the plain sum.

    Source: Yu, Kumar, Gupta, Levine, Hausman & Finn, "Gradient Surgery for Multi-Task Learning", NeurIPS 2020,
    algorithm 1.

    Deviation elsewhere: the authors' code visits the other tasks in their order; it does not use what it shuffles.

    Args:
        shape: (K, T).
    """

    heads = "own"

    def forward(self, step: Step) -> Tensor:
        gramian, tasks = step.gramian(), self.shape[1]
        inverse = reciprocal(gradient_norms(gramian)).unsqueeze(1)  # [K, 1, T]; that of a square might overflow
        own = torch.eye(tasks, device=gramian.device, dtype=gramian.dtype)
        rows = own.expand_as(gramian)  # [K, T, T]
        order = step.rand(tasks, tasks).argsort(-1)  # [K, T, T], each row's own
        for turn in range(tasks):
            chosen = own[order[..., turn]] * (1 - own)  # [K, T, T], one other task, or none for the row's own
            conflict = (rows @ gramian).clamp_max(0) * inverse
            rows = rows - chosen * conflict * inverse
        return (rows.sum(1) * step.losses).sum(-1)
