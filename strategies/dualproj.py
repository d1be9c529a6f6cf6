"""Projection of the mean gradient."""

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register
from mtlbench.solvers import dual_cone_projection


@register("dualproj")
class DualProj(Strategy):
    """The mean gradient projected onto the directions that no task objects to.

    w = argmin {v'Gv : v >= 1 / T}: <d, g_t> >= 0 for every task. Where the mean gradient conflicts with none it is
    the mean.

    Source: Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, eq. 11, where it
    projects one task's gradient against those of earlier tasks; for the mean of all tasks, as in Quinton & Rey, 2024
    (arXiv:2406.16232).

    Deviations elsewhere: GEM's code has v >= 1 / T + 0.5 in place of v >= 1 / T, a margin that eq. 11 does not have.
    TorchJD normalises G and adds a ridge of 1e-4 to it by default, which moves the weights, where lengths differ by
    orders of magnitude by up to their own size; `reg_eps=0` takes it away.

    Args:
        shape: (K, T).
    """

    heads = "own"

    def forward(self, step: Step) -> Tensor:
        mean = torch.full_like(step.losses, 1 / self.shape[1]).detach()  # [K, T]
        return (dual_cone_projection(step.gramian(), mean, step.losses.dtype) * step.losses).sum(-1)
