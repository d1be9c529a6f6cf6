"""Random loss weighting."""

import math
from typing import Literal

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register


@register("rlw")
class RandomLossWeighting(Strategy):
    """Weights drawn anew in every step: what any clever weighting has to beat.

    w = softmax(z) with z standard normal, or w uniform on the simplex (Dirichlet with all parameters 1). The
    weights sum to 1, not T.

    Source: Lin, Ye, Zhang & Tsang, "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
    Learning", TMLR 2022; normal is what the authors' code (LibMTL) draws.

    Deviation elsewhere: the code of IGB multiplies the weights by T.

    Args:
        shape: (K, T).
        distribution: `normal` (softmax of it) or `dirichlet`.
    """

    def __init__(self, shape: tuple[int, int], *, distribution: Literal["normal", "dirichlet"] = "normal") -> None:
        super().__init__(shape)
        self.distribution = distribution

    def forward(self, step: Step) -> Tensor:
        exponential = -torch.log1p(-step.rand(self.shape[1]))  # [K, T]
        if self.distribution == "dirichlet":
            weights = exponential / exponential.sum(-1, keepdim=True)
        else:
            # Box and Muller: radius and angle of a normal point in the plane.
            angle = 2 * math.pi * step.rand(self.shape[1])
            weights = ((2 * exponential).sqrt() * torch.cos(angle)).softmax(-1)
        return (weights * step.losses).sum(-1)
