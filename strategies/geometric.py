"""Geometric loss strategy."""

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register


@register("geometric")
class Geometric(Strategy):
    """The geometric mean of the losses (GLS).

    Minimises (prod_t L_t)^(1/T) = exp(mean_t log L_t), so that w_t = objective / (T L_t): scaling a loss scales all
    weights alike. A loss of 0 gets weight 0.

    Source: Chennupati, Sistu, Yogamani & Rawashdeh, "MultiNet++: Multi-Stream Feature Aggregation and Geometric
    Loss Strategy for Multi-Task Learning", CVPR Workshops 2019.

    Args:
        shape: (K, T).
    """

    losses = "positive"

    def forward(self, step: Step) -> Tensor:
        losses = step.losses.clamp_min(torch.finfo(step.losses.dtype).tiny)
        return losses.log().mean(-1).exp()
